"""Each framework behind a limit of one request in a day for each of its two routes.

``app`` is all of them in one app, for a server in a process of its own: the header ``x-framework`` chooses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flexmw
from tests.hosts.apps import HOSTS
from tests.servers import ASGIApp

__all__ = ["ALL", "app", "limited"]


def fastapi() -> ASGIApp:
    from fastapi import FastAPI

    app = FastAPI()

    @app.api_route("/ok", methods=["GET", "HEAD"])
    async def ok() -> str:
        return "fine"

    @app.api_route("/items/{item}/part", methods=["GET", "HEAD"])
    async def part(item: str) -> str:
        return "fine"

    return app


ALL: dict[str, Callable[[], ASGIApp]] = {"fastapi": fastapi, **HOSTS}


def limited(host: ASGIApp) -> ASGIApp:
    limits = {"GET /ok": "1/day", "GET /items/{item}/part": "1/day"}
    return flexmw.RateLimit("100000/minute", limit=limits).asgi(host)


_hosts: dict[bytes, ASGIApp] = {}


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        for name, make in ALL.items():
            host: Any = make()
            if hasattr(host, "start"):  # BlackSheep builds its routes when it starts
                await host.start()
            _hosts[name.encode()] = limited(host)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await _hosts[dict(scope["headers"])[b"x-framework"]](scope, receive, send)
