"""One app on each framework that ``flexmw.install`` knows, without a line of flexmw but the kind that it raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flexmw

__all__ = ["APPS", "fastapi", "litestar", "quart", "starlette"]


def starlette(origins: list[str] | None = None) -> Any:
    from starlette.applications import Starlette
    from starlette.middleware.cors import CORSMiddleware
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    async def ok(request: Request) -> Response:
        return PlainTextResponse("fine")

    async def crash(request: Request) -> Response:
        raise ValueError("hidden")

    async def kind(request: Request) -> Response:
        raise flexmw.ModelNotFound("foo")

    app = Starlette(routes=[Route("/ok", ok), Route("/crash", crash), Route("/kind", kind)])
    if origins:
        app.add_middleware(CORSMiddleware, allow_origins=origins)
    return app


def fastapi(origins: list[str] | None = None) -> Any:
    from fastapi import FastAPI
    from fastapi.middleware.cors import CORSMiddleware

    app = FastAPI()

    @app.get("/ok")
    def ok() -> str:
        return "fine"

    @app.get("/crash")
    def crash() -> None:
        raise ValueError("hidden")

    @app.get("/kind")
    def kind() -> None:
        raise flexmw.ModelNotFound("foo")

    if origins:
        app.add_middleware(CORSMiddleware, allow_origins=origins)
    return app


def litestar(origins: list[str] | None = None) -> Any:
    from litestar import Litestar, get
    from litestar.config.cors import CORSConfig

    @get("/ok")
    async def ok() -> str:
        return "fine"

    @get("/crash")
    async def crash() -> None:
        raise ValueError("hidden")

    @get("/kind")
    async def kind() -> None:
        raise flexmw.ModelNotFound("foo")

    config = CORSConfig(allow_origins=origins) if origins else None
    return Litestar([ok, crash, kind], cors_config=config, logging_config=None)


def quart(origins: list[str] | None = None) -> Any:
    from quart import Quart
    from starlette.middleware.cors import CORSMiddleware

    app = Quart("installed")

    @app.get("/ok")
    async def ok() -> str:
        return "fine"

    @app.get("/crash")
    async def crash() -> str:
        raise ValueError("hidden")

    @app.get("/kind")
    async def kind() -> str:
        raise flexmw.ModelNotFound("foo")

    if origins:
        app.asgi_app = CORSMiddleware(app.asgi_app, allow_origins=origins)  # type: ignore[method-assign,assignment,arg-type]
    return app


APPS: dict[str, Callable[..., Any]] = {
    "starlette": starlette,
    "fastapi": fastapi,
    "litestar": litestar,
    "quart": quart,
}
