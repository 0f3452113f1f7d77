"""Idempotency in an event loop whose tasks run at once up to their first wait (``eager_start`` of Python 3.12)."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

import flexmw
from flexmw.idempotency.eager_task import EagerTask

EVENTS = [b"data: %d\n\n" % number for number in range(3)]


def eager(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> Any:
    """Start a task as ``asyncio.eager_task_factory`` does, which Python 3.11 does not have."""
    host = asyncio.current_task(loop)
    return asyncio.Task(work, loop=loop, **options) if host is None else EagerTask(work, host)


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    for event in EVENTS:
        await send({"type": "http.response.body", "body": event, "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b""})


def test_a_keyed_stream_is_whole_where_tasks_start_at_once() -> None:
    async def run() -> list[bytes]:
        asyncio.get_running_loop().set_task_factory(getattr(asyncio, "eager_task_factory", eager))
        transport = httpx.ASGITransport(flexmw.wrap_app(app, flexmw.Idempotency()))
        headers = {"idempotency-key": "k", "authorization": "Bearer token-of-one-caller"}
        async with httpx.AsyncClient(transport=transport, base_url="http://app", headers=headers) as client:
            return [(await client.post("/")).content for _ in range(2)]

    assert asyncio.run(run()) == [b"".join(EVENTS)] * 2
