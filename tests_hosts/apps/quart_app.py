"""The routes on Quart."""

from __future__ import annotations

from typing import Any

from quart import Quart, Response, request, websocket
from werkzeug.exceptions import BadRequest, TooManyRequests

import flexmw
from tests_hosts.work import SECRET, Work

__all__ = ["make"]


def make(work: Work) -> Any:
    """Return a new app."""
    app = Quart("matrix")

    @app.before_serving
    async def start() -> None:
        work.started()

    @app.after_serving
    async def stop() -> None:
        work.stopped()

    @app.get("/ok")
    @app.get("/once")
    async def ok() -> str:
        return "fine"

    @app.post("/work")
    async def execute() -> dict[str, int]:
        body = await request.get_json()
        if not isinstance(body.get("n"), int):
            raise BadRequest("n: Input should be a valid integer")
        return work.execute(body["n"])

    @app.post("/size")
    async def size() -> str:
        return str(len(await request.get_data()))

    @app.get("/busy")
    def busy() -> str:  # in a thread of Quart's
        raise TooManyRequests("Slow down, please.", retry_after=7)

    @app.get("/kind")
    async def kind() -> str:
        raise flexmw.ModelNotFound("foo")

    @app.get("/crash")
    async def crash() -> str:
        raise ValueError(SECRET)

    @app.get("/events")
    async def events() -> Response:
        return Response(work.events(), mimetype="text/event-stream")

    @app.get("/broken")
    async def broken() -> Response:
        return Response(work.broken(), mimetype="text/event-stream")

    @app.get("/ring")
    async def ring() -> str:
        return work.ring()

    @app.websocket("/echo")
    async def echo() -> None:
        while True:
            await websocket.send(await websocket.receive())

    @app.websocket("/refuse")
    async def refuse() -> None:
        await websocket.close(1008)

    return app
