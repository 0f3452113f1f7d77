"""The events of a stream whose end the Envelope keeps back, while the app is still inside its ``send``."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import flexmw
from flexmw.contract.stream_framing import EVENTS
from flexmw.kit.exchange import Exchange
from tests.wire import AppResponse, call

pytestmark = pytest.mark.anyio

EVENT = b"data: {}\n\n"
DONE = b"data: [DONE]\n\n"
HELD, BEGAN, ENDED = "flexmw.stream.held", "flexmw.stream.began", "flexmw.stream.ended"


async def told(*bodies: bytes, media: bytes = b"text/event-stream", **options: Any) -> tuple[list[str], AppResponse]:
    """The events of a response of these bodies, the last of which ends it, and ``returned``: when the host does."""
    events: list[str] = []

    async def host(scope: Any, receive: Any, send: Any) -> None:
        Exchange.of(scope).subscribe(lambda event, details: events.append(event))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", media)]})
        for number, body in enumerate(bodies, 1):
            await send({"type": "http.response.body", "body": body, "more_body": number < len(bodies)})
        events.append("returned")

    seen = await call(flexmw.Envelope(**options).asgi(host))
    return events, seen


@pytest.mark.parametrize("last", [b"", EVENT, DONE, b"half"])
async def test_beginning_and_end_are_emitted_before_the_app_returns(last: bytes) -> None:
    events, seen = await told(EVENT, EVENT, last)
    assert events == [HELD, BEGAN, ENDED, "returned"]
    assert seen.body == EVENT + EVENT + last
    assert seen.ended


async def test_lines_have_events_where_their_end_is_held() -> None:
    assert (await told(b"{}\n", b"", media=b"application/x-ndjson", lines=True))[0] == [HELD, BEGAN, ENDED, "returned"]
    assert (await told(b"{}\n", b"", media=b"application/x-ndjson"))[0] == ["returned"]


@pytest.mark.parametrize("bodies", [(b"",), (b"", b""), (b"half",)])
async def test_a_stream_without_an_event_has_neither(bodies: tuple[bytes, ...]) -> None:
    events, seen = await told(*bodies)
    assert events == [HELD, "returned"]
    assert seen.ended


async def test_a_stream_that_breaks_has_begun_and_not_ended() -> None:
    async def host(scope: Any, receive: Any, send: Any) -> None:
        Exchange.of(scope).subscribe(lambda event, details: events.append(event))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": EVENT, "more_body": True})
        raise ValueError("hidden")

    events: list[str] = []
    seen = await call(flexmw.Envelope().asgi(host))
    assert events == [HELD, BEGAN, "flexmw.error.decided"]
    assert seen.body.startswith(EVENT + b'event: error\ndata: {"error":')


async def test_a_host_that_ends_a_stream_while_it_is_being_stopped_has_not_ended_it_well() -> None:
    events: list[str] = []

    async def host(scope: Any, receive: Any, send: Any) -> None:
        Exchange.of(scope).subscribe(lambda event, details: events.append(event))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})

        async def produce() -> None:
            await items.send(EVENT)
            await taken.wait()
            items.close()
            raise ValueError("hidden")

        taken = anyio.Event()
        items, ready = anyio.create_memory_object_stream[bytes](1)
        with items, ready:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(produce)
                async for item in ready:
                    await send({"type": "http.response.body", "body": item, "more_body": True})
                    taken.set()
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    seen = await call(flexmw.Envelope().asgi(host))
    assert events == [HELD, BEGAN, "flexmw.error.decided"]
    assert b'"code":"internal_error"' in seen.body
    assert seen.ended


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
async def test_an_event_in_small_pieces_is_forwarded_whole(end: bytes, size: int) -> None:
    text = b"data: one" + end + b"data: two" + end + b"half"
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    _, seen = await told(*pieces, b"")
    assert seen.body == text


def test_the_end_of_an_event_is_searched_in_the_new_bytes_alone() -> None:
    data = b"data: one\n\n" + b"x" * 100
    assert EVENTS.cut(data) == 11
    assert EVENTS.cut(data, 20) == 0
