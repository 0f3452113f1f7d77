"""The routes on Litestar."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, MediaType, Request, WebSocket, get, post, websocket
from litestar.exceptions import TooManyRequestsException, WebSocketDisconnect
from litestar.params import JSONBody
from litestar.response import Stream
from pydantic import BaseModel

import flexmw
from tests_hosts.work import SECRET, Work

__all__ = ["make"]


class Order(BaseModel):
    n: int


def make(work: Work) -> Any:
    """Return a new app."""

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        work.started()
        yield
        work.stopped()

    @get(["/ok", "/once"], media_type=MediaType.TEXT)
    async def ok() -> str:
        return "fine"

    @post("/work", status_code=200)
    async def execute(data: JSONBody[Order]) -> dict[str, int]:
        return work.execute(data.n)

    @post("/size", status_code=200, media_type=MediaType.TEXT, request_max_body_size=None)
    async def size(request: Request[Any, Any, Any]) -> str:
        return str(len(await request.body()))

    @get("/busy", sync_to_thread=True)
    def busy() -> None:
        raise TooManyRequestsException("Slow down, please.", headers={"Retry-After": "7"})

    @get("/kind")
    async def kind() -> None:
        raise flexmw.ModelNotFound("foo")

    @get("/crash")
    async def crash() -> None:
        raise ValueError(SECRET)

    @get("/events")
    async def events() -> Stream:
        return Stream(work.events(), media_type="text/event-stream")

    @get("/broken")
    async def broken() -> Stream:
        return Stream(work.broken(), media_type="text/event-stream")

    @get("/ring", media_type=MediaType.TEXT)
    async def ring() -> str:
        return work.ring()

    @websocket("/echo")
    async def echo(socket: WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        try:
            while True:
                await socket.send_text(await socket.receive_text())
        except WebSocketDisconnect:
            pass

    @websocket("/refuse")
    async def refuse(socket: WebSocket[Any, Any, Any]) -> None:
        await socket.close(1008)

    routes = [ok, execute, size, busy, kind, crash, events, broken, ring, echo, refuse]
    return Litestar(routes, lifespan=[lifespan], logging_config=None)
