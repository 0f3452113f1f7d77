"""The routes on FastAPI."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request, WebSocket
from pydantic import BaseModel
from starlette.responses import PlainTextResponse, StreamingResponse

import flexmw
from tests_hosts.work import SECRET, Work

__all__ = ["make"]


class Order(BaseModel):
    n: int


def make(work: Work) -> Any:
    """Return a new app."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        work.started()
        yield
        work.stopped()

    app = FastAPI(lifespan=lifespan)

    @app.get("/ok", response_class=PlainTextResponse)
    @app.get("/once", response_class=PlainTextResponse)
    async def ok() -> str:
        return "fine"

    @app.post("/work")
    async def execute(order: Order) -> dict[str, int]:
        return work.execute(order.n)

    @app.post("/size", response_class=PlainTextResponse)
    async def size(request: Request) -> str:
        return str(len(await request.body()))

    @app.get("/busy")
    def busy() -> str:  # in a thread of FastAPI's
        raise HTTPException(429, "Slow down, please.", {"Retry-After": "7"})

    @app.get("/kind")
    async def kind() -> str:
        raise flexmw.ModelNotFound("foo")

    @app.get("/crash")
    async def crash() -> str:
        raise ValueError(SECRET)

    @app.get("/events")
    async def events() -> StreamingResponse:
        return StreamingResponse(work.events(), media_type="text/event-stream")

    @app.get("/broken")
    async def broken() -> StreamingResponse:
        return StreamingResponse(work.broken(), media_type="text/event-stream")

    @app.get("/ring", response_class=PlainTextResponse)
    async def ring() -> str:
        return work.ring()

    @app.websocket("/echo")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text)

    @app.websocket("/refuse")
    async def refuse(socket: WebSocket) -> None:
        await socket.close(1008)

    return app
