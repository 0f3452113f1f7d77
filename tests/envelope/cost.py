"""What the Envelope costs where nothing fails, beside a no-op ASGI wrapper: ``python -m tests.envelope.cost``."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import flexmw
from tests.envelope.wire import scripted
from tests.servers import ASGIApp

HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"13")]
EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8")]
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
CHUNKS = 500


def wrapped(app: ASGIApp) -> ASGIApp:
    """The least that a wrapper can be."""

    async def wrapper(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return wrapper


async def microseconds(app: ASGIApp, times: int) -> float:
    """The processor time of one request, the least of 15 rounds: what others do on the machine is not counted."""

    async def receive() -> Any:
        raise AssertionError

    async def send(message: Any) -> None:
        return None

    rounds: list[float] = []
    for _ in range(15):
        begun = time.process_time()
        for _ in range(times):
            await app({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, send)
        rounds.append((time.process_time() - begun) / times * 1e6)
    return min(rounds)


async def main() -> None:
    answer = scripted(
        {"type": "http.response.start", "status": 200, "headers": HEADERS},
        {"type": "http.response.body", "body": b'{"fine":true}'},
    )
    stream = scripted(
        {"type": "http.response.start", "status": 200, "headers": EVENTS},
        *[{"type": "http.response.body", "body": EVENT, "more_body": True}] * CHUNKS,
        {"type": "http.response.body", "body": b"data: [DONE]\n\n"},
    )
    envelope = flexmw.Envelope()
    for what, app, times, each in (("a 200", answer, 2000, 1), ("a chunk of a stream", stream, 20, CHUNKS)):
        bare, full = await microseconds(wrapped(app), times), await microseconds(envelope.asgi(app), times)
        print(f"{what}: +{(full - bare) / each:.2f} us over a no-op wrapper ({bare / each:.2f} us)")  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main())
