"""The app's own words on BlackSheep, which reads annotations from the module."""

from __future__ import annotations

from typing import Any

from blacksheep import Application, Request, Response, TextContent
from blacksheep.contents import StreamedContent
from blacksheep.server.responses import json
from blacksheep.server.routing import Router

from tests.hosts.words_apps import TEXT, Bell, SeatTakenError, UnluckyError, body
from tests.servers import ASGIApp


def make() -> ASGIApp:
    app, bell = Application(router=Router()), Bell()

    async def taken(request: Request) -> Response:
        raise SeatTakenError(TEXT)

    async def unlucky(request: Request) -> Response:
        raise UnluckyError

    async def closed(request: Request) -> Response:
        return Response(499, content=TextContent("The window closed early."))

    async def idle(request: Request) -> Response:
        return Response(200, content=StreamedContent(b"text/event-stream", bell.events))

    async def ring(request: Request) -> Response:
        return Response(200, content=TextContent(bell.ring()))

    async def on_taken(app: Any, request: Request, error: Exception) -> Response:
        return json(body(error), 409)

    async def on_unlucky(app: Any, request: Request, error: Exception) -> Response:
        raise RuntimeError("the template is gone")

    for name, endpoint in {
        "taken": taken, "unlucky": unlucky, "closed": closed, "idle": idle, "ring": ring,
    }.items():  # fmt: skip
        app.router.add_get(f"/{name}", endpoint)
    app.exceptions_handlers.update({SeatTakenError: on_taken, UnluckyError: on_unlucky})
    return app  # type: ignore[return-value]
