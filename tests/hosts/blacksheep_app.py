"""The errors on BlackSheep."""

from __future__ import annotations

import asyncio

from blacksheep import Application, Request, Response, TextContent
from blacksheep.exceptions import BadRequest, NotFound
from blacksheep.server.routing import Router

import flexmw
from tests.servers import ASGIApp

SECRET = "sk-canary-0123456789abcdef"


def _raises_in_thread() -> None:
    raise flexmw.InsufficientCredit()


def make() -> ASGIApp:
    app = Application(router=Router())  # the default router belongs to the first app of the process

    async def ok(request: Request) -> Response:
        return Response(200, content=TextContent("fine"))

    async def missing(request: Request) -> Response:
        raise NotFound

    async def validate(request: Request) -> Response:
        if not isinstance((await request.json()).get("n"), int):
            raise BadRequest("n: Input should be a valid integer")
        return await ok(request)

    async def limited(request: Request) -> Response:
        return Response(429, [(b"Retry-After", b"7")], TextContent("Slow down, please."))

    async def crash(request: Request) -> Response:
        raise ValueError(SECRET)

    async def kind(request: Request) -> Response:
        raise flexmw.ModelNotFound("foo", headers={"x-kind": "1"})

    async def kind_500(request: Request) -> Response:
        raise flexmw.UpstreamTimeout()

    async def thread(request: Request) -> Response:
        await asyncio.to_thread(_raises_in_thread)
        raise AssertionError

    for name, endpoint in {
        "ok": ok, "missing": missing, "limited": limited, "crash": crash, "kind": kind, "kind-500": kind_500,
        "thread": thread,
    }.items():  # fmt: skip
        app.router.add_get(f"/{name}", endpoint)
    app.router.add_get("/items/:item/part", ok)
    app.router.add_post("/validate", validate)
    return app  # type: ignore[return-value]
