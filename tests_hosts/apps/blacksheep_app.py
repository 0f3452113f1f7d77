"""The routes on BlackSheep."""

from __future__ import annotations

from typing import Any

from blacksheep import Application, Request, Response, TextContent, WebSocket, WebSocketDisconnectError
from blacksheep.contents import StreamedContent
from blacksheep.exceptions import BadRequest
from blacksheep.server.responses import json
from blacksheep.server.routing import Router

import flexmw
from tests_hosts.work import SECRET, Work

__all__ = ["make"]


def make(work: Work) -> Any:
    """Return a new app."""
    app = Application(router=Router())

    @app.on_start
    async def start(application: Application) -> None:
        work.started()

    @app.on_stop
    async def stop(application: Application) -> None:
        work.stopped()

    async def ok(request: Request) -> Response:
        return Response(200, content=TextContent("fine"))

    async def execute(request: Request) -> Response:
        body = await request.json()
        if not isinstance(body.get("n"), int):
            raise BadRequest("n: Input should be a valid integer")
        return json(work.execute(body["n"]))

    async def size(request: Request) -> Response:
        return Response(200, content=TextContent(str(len(await request.read() or b""))))

    async def busy(request: Request) -> Response:
        return Response(429, [(b"Retry-After", b"7")], TextContent("Slow down, please."))

    async def kind(request: Request) -> Response:
        raise flexmw.ModelNotFound("foo")

    async def crash(request: Request) -> Response:
        raise ValueError(SECRET)

    async def events(request: Request) -> Response:
        return Response(200, content=StreamedContent(b"text/event-stream", work.events))

    async def broken(request: Request) -> Response:
        return Response(200, content=StreamedContent(b"text/event-stream", work.broken))

    async def ring(request: Request) -> Response:
        return Response(200, content=TextContent(work.ring()))

    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                await websocket.send_text(await websocket.receive_text())
        except WebSocketDisconnectError:
            pass

    async def refuse(websocket: WebSocket) -> None:
        await websocket.close(1008)

    for path, endpoint in {
        "/ok": ok, "/once": ok, "/busy": busy, "/kind": kind, "/crash": crash, "/events": events, "/broken": broken,
        "/ring": ring,
    }.items():  # fmt: skip
        app.router.add_get(path, endpoint)
    app.router.add_post("/work", execute)
    app.router.add_post("/size", size)
    app.router.add_ws("/echo", echo)
    app.router.add_ws("/refuse", refuse)
    return app
