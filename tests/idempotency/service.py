"""A host as a provider has it: chat completions and messages that cost money, counted."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.responses import Response

import flexmw

CHAT: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_800_000_000,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}],
}
MESSAGE: dict[str, Any] = {
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}


@dataclass
class Provider:
    """``faults``: what the runs do, in order; then they work. Seconds are how long each takes.

    An order, and a stream after its second event, do not go on before ``may_finish`` is set. ``begun`` is set as soon
    as a run begins.
    """

    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0
    runs: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    may_finish: threading.Event | None = None
    begun: threading.Event = field(default_factory=threading.Event)

    def next(self) -> tuple[int, str]:
        with self.lock:
            self.runs += 1
            self.begun.set()
            return self.runs, self.faults.pop(0) if self.faults else "ok"

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/v1/chat/completions")
        async def chat(request: Request) -> Response:
            run, fault = self.next()
            body = await request.json()
            await asyncio.sleep(self.seconds)
            if body.get("stream"):
                return StreamingResponse(self.events(run, fault), media_type="text/event-stream")
            return self.answer(fault, CHAT | {"id": f"chatcmpl-{run}"})

        @app.post("/v1/messages")
        async def messages() -> Response:
            run, fault = self.next()
            await asyncio.sleep(self.seconds)
            return self.answer(fault, MESSAGE | {"id": f"msg-{run}"})

        @app.post("/orders")
        async def order(request: Request) -> dict[str, Any]:
            run, fault = self.next()
            await request.body()
            await asyncio.sleep(self.seconds)
            await self.wait_for_finish()
            if fault == "raise":
                raise RuntimeError("sk-secret")
            return {"run": run}

        return app

    async def wait_for_finish(self) -> None:
        if self.may_finish is not None:
            await asyncio.to_thread(self.may_finish.wait, 30)

    def answer(self, fault: str, value: dict[str, Any]) -> Response:
        if fault == "raise":
            raise RuntimeError("sk-secret")
        if fault == "timeout":
            raise TimeoutError("sk-secret")
        if fault == "429":
            raise flexmw.RateLimitExceeded(0.01)
        status = int(fault) if fault.isdigit() else 200
        return JSONResponse(value if status == 200 else {"detail": "no"}, status)

    async def events(self, run: int, fault: str) -> AsyncIterator[str]:
        for number in range(4):
            delta = {"index": 0, "delta": {"content": str(number)}, "finish_reason": None}
            chunk = CHAT | {"id": f"chatcmpl-{run}", "object": "chat.completion.chunk", "choices": [delta]}
            yield f"data: {json.dumps(chunk)}\n\n"
            if fault == "raise" and number == 1:
                raise RuntimeError("sk-secret")
            if number == 1:
                await self.wait_for_finish()
            await asyncio.sleep(self.seconds / 4)
        yield "data: [DONE]\n\n"
