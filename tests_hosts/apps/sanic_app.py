"""The routes on Sanic."""

from __future__ import annotations

from typing import Any

from sanic import Request, Sanic, Websocket, json, text
from sanic.exceptions import BadRequest, Forbidden, SanicException
from sanic.response import HTTPResponse

import flexmw
from tests_hosts.work import SECRET, Work

__all__ = ["make"]


def make(work: Work) -> Any:
    """Return a new app."""
    app: Any = Sanic("matrix", configure_logging=False)

    @app.before_server_start
    async def start(app: Any) -> None:
        work.started()

    @app.after_server_stop
    async def stop(app: Any) -> None:
        work.stopped()

    @app.get("/ok", name="ok")
    @app.get("/once", name="once")
    async def ok(request: Request) -> HTTPResponse:
        return text("fine")

    @app.post("/work")
    async def execute(request: Request) -> HTTPResponse:
        if not isinstance(request.json.get("n"), int):
            raise BadRequest("n: Input should be a valid integer")
        return json(work.execute(request.json["n"]))

    @app.post("/size")
    async def size(request: Request) -> HTTPResponse:
        return text(str(len(request.body)))

    @app.get("/busy")
    async def busy(request: Request) -> HTTPResponse:
        raise SanicException("Slow down, please.", 429, headers={"Retry-After": "7"})

    @app.get("/kind")
    async def kind(request: Request) -> HTTPResponse:
        raise flexmw.ModelNotFound("foo")

    @app.get("/crash")
    async def crash(request: Request) -> HTTPResponse:
        raise ValueError(SECRET)

    @app.get("/events")
    async def events(request: Request) -> None:
        response = await request.respond(content_type="text/event-stream")
        async for event in work.events():
            await response.send(event)

    @app.get("/broken")
    async def broken(request: Request) -> None:
        response = await request.respond(content_type="text/event-stream")
        async for event in work.broken():
            await response.send(event)

    @app.get("/ring")
    async def ring(request: Request) -> HTTPResponse:
        return text(work.ring())

    @app.websocket("/echo")
    async def echo(request: Request, socket: Websocket) -> None:
        while True:
            await socket.send(await socket.recv())

    @app.websocket("/refuse")
    async def refuse(request: Request, socket: Websocket) -> None:
        raise Forbidden("Not for you.")

    return app
