"""The routes on Starlette, also for the servers of MCP, which are Starlette apps inside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

import flexmw
from tests_hosts.work import SECRET, Work

__all__ = ["Endpoint", "endpoints", "make"]

Endpoint = Callable[[Request], Awaitable[Response]]


def endpoints(work: Work) -> Mapping[str, tuple[str, Endpoint]]:
    """The method and the endpoint of each path."""

    async def ok(request: Request) -> Response:
        return PlainTextResponse("fine")

    async def execute(request: Request) -> Response:
        body = await request.json()
        if not isinstance(body.get("n"), int):
            raise HTTPException(400, "n: Input should be a valid integer")
        return JSONResponse(work.execute(body["n"]))

    async def size(request: Request) -> Response:
        return PlainTextResponse(str(len(await request.body())))

    async def busy(request: Request) -> Response:
        raise HTTPException(429, "Slow down, please.", {"Retry-After": "7"})

    async def kind(request: Request) -> Response:
        raise flexmw.ModelNotFound("foo")

    async def crash(request: Request) -> Response:
        raise ValueError(SECRET)

    async def events(request: Request) -> Response:
        return StreamingResponse(work.events(), media_type="text/event-stream")

    async def broken(request: Request) -> Response:
        return StreamingResponse(work.broken(), media_type="text/event-stream")

    async def ring(request: Request) -> Response:
        return PlainTextResponse(work.ring())

    return {
        "/ok": ("GET", ok), "/once": ("GET", ok), "/work": ("POST", execute), "/size": ("POST", size),
        "/busy": ("GET", busy), "/kind": ("GET", kind), "/crash": ("GET", crash), "/events": ("GET", events),
        "/broken": ("GET", broken), "/ring": ("GET", ring),
    }  # fmt: skip


def make(work: Work) -> Any:
    """Return a new app."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        work.started()
        yield
        work.stopped()

    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text)

    async def refuse(socket: WebSocket) -> None:
        await socket.close(1008)

    routes = [Route(path, endpoint, methods=[method]) for path, (method, endpoint) in endpoints(work).items()]
    sockets = [WebSocketRoute("/echo", echo), WebSocketRoute("/refuse", refuse)]
    return Starlette(routes=[*routes, *sockets], lifespan=lifespan)
