"""The routes on Falcon."""

from __future__ import annotations

from typing import Any

import falcon
import falcon.asgi

import flexmw
from tests_hosts.work import SECRET, Work

__all__ = ["make"]


class Lifespan:
    """A middleware of Falcon's, with its two events of the lifespan."""

    def __init__(self, work: Work) -> None:
        self.work = work

    async def process_startup(self, scope: Any, event: Any) -> None:
        self.work.started()

    async def process_shutdown(self, scope: Any, event: Any) -> None:
        self.work.stopped()


class Routes:
    """One method per route; a suffix chooses it."""

    def __init__(self, work: Work) -> None:
        self.work = work

    async def on_get_ok(self, request: Any, response: Any) -> None:
        response.text = "fine"

    async def on_post_work(self, request: Any, response: Any) -> None:
        body = await request.get_media()
        if not isinstance(body.get("n"), int):
            raise falcon.HTTPInvalidParam("Input should be a valid integer.", "n")
        response.media = self.work.execute(body["n"])

    async def on_post_size(self, request: Any, response: Any) -> None:
        response.text = str(len(await request.stream.read()))

    async def on_get_busy(self, request: Any, response: Any) -> None:
        raise falcon.HTTPTooManyRequests(description="Slow down, please.", retry_after=7)

    async def on_get_kind(self, request: Any, response: Any) -> None:
        raise flexmw.ModelNotFound("foo")

    async def on_get_crash(self, request: Any, response: Any) -> None:
        raise ValueError(SECRET)

    async def on_get_events(self, request: Any, response: Any) -> None:
        response.content_type, response.stream = "text/event-stream", self.work.events()

    async def on_get_broken(self, request: Any, response: Any) -> None:
        response.content_type, response.stream = "text/event-stream", self.work.broken()

    async def on_get_ring(self, request: Any, response: Any) -> None:
        response.text = self.work.ring()

    async def on_websocket_echo(self, request: Any, socket: Any) -> None:
        await socket.accept()
        try:
            while True:
                await socket.send_text(await socket.receive_text())
        except falcon.WebSocketDisconnected:
            pass

    async def on_websocket_refuse(self, request: Any, socket: Any) -> None:
        await socket.close(1008)


def make(work: Work) -> Any:
    """Return a new app."""
    app = falcon.asgi.App(middleware=[Lifespan(work)])
    routes = Routes(work)
    for suffix in ("ok", "work", "size", "busy", "kind", "crash", "events", "broken", "ring", "echo", "refuse"):
        app.add_route(f"/{suffix}", routes, suffix=suffix)
    app.add_route("/once", routes, suffix="ok")
    return app
