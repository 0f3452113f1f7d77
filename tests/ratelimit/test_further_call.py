"""Calls of the app one after the other with one scope: each response has its own messages."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from flexmw import Idempotency, RateLimit
from flexmw.kit.asgi import Message, Receive, Scope, Send


@pytest.mark.parametrize(
    "component",
    [RateLimit("9/minute"), RateLimit("9/minute", concurrency=5), Idempotency()],
    ids=["local", "general", "idempotency"],
)
def test_a_cancelled_call_sends_nothing_into_the_response_of_the_next_one(component: Any) -> None:
    async def check() -> None:
        has_begun, may_end = asyncio.Event(), asyncio.Event()
        tasks: list[asyncio.Task[None]] = []
        responses: list[list[Message]] = [[], []]

        async def respond(send: Send, number: int) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"%d" % number, "more_body": True})
            has_begun.set()
            await may_end.wait()
            await send({"type": "http.response.body", "body": b"%d" % number, "more_body": False})

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            tasks.append(asyncio.create_task(respond(send, len(tasks))))
            if len(tasks) == 2:
                may_end.set()
                await asyncio.wait(tasks)
            await asyncio.shield(tasks[-1])

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send_first(message: Message) -> None:
            responses[0].append(message)

        async def send_second(message: Message) -> None:
            responses[1].append(message)

        wrapped = component.asgi(app)
        scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b"", "client": ("a", 1)}
        first = asyncio.create_task(wrapped(scope, receive, send_first))
        await has_begun.wait()
        first.cancel()
        with suppress(asyncio.CancelledError):
            await first
        await wrapped(scope, receive, send_second)
        with suppress(OSError):
            await tasks[0]
        bodies = [message["body"] for message in responses[1] if message["type"] == "http.response.body"]
        assert bodies == [b"1", b"1"]
        assert [message.get("status") for message in responses[1]] == [200, None, None]

    asyncio.run(check())
