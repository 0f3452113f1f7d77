"""The bytes of a stream that are kept are the bytes that were sent: whole events, whatever ends its lines."""

from __future__ import annotations

from typing import Any, Final

import httpx
import pytest

import flexmw
from flexmw.idempotency import Idempotency
from flexmw.kit.asgi import ASGIApp
from tests.idempotency.calls import KEYED, Caller
from tests.servers import Serve
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio

EVENT_STREAM: Final = [(b"content-type", b"text/event-stream")]
LINE_ENDS = pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
ENVELOPED = pytest.mark.parametrize("enveloped", [True, False], ids=["Envelope outside", "no Envelope"])


def events(line_end: bytes, count: int = 3) -> list[bytes]:
    return [b"data: %d" % number + line_end * 2 for number in range(count)]


def streaming(
    *parts: bytes,
    error: Exception | None = None,
    end: bytes | None = None,
    headers: list[tuple[bytes, bytes]] = EVENT_STREAM,
) -> ASGIApp:
    """An app that sends ``parts``, then ``end`` as its last message, and then raises ``error``."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        if end is not None:
            await send({"type": "http.response.body", "body": end})
        if error is not None:
            raise error

    return app


def wrapped(app: ASGIApp, *, enveloped: bool, **options: Any) -> ASGIApp:
    outside = (flexmw.Envelope(**options),) if enveloped else ()
    return flexmw.wrap_app(app, *outside, Idempotency())


async def twice(app: ASGIApp) -> tuple[Caller, Caller]:
    first = await Caller(app, headers=KEYED)()
    second = await Caller(app, headers=KEYED)()
    assert second.replayed
    return first, second


@LINE_ENDS
@ENVELOPED
async def test_a_stream_that_breaks_at_any_byte_is_kept_as_it_was_sent(line_end: bytes, enveloped: bool) -> None:
    whole = b"".join(events(line_end))
    for size in range(len(whole)):
        app = wrapped(streaming(whole[:size], error=ValueError("hidden")), enveloped=enveloped)
        first, second = await twice(app)
        if enveloped:
            assert (second.status, second.answer) == (first.status, first.answer)
        else:  # the server cuts the first response
            assert second.answer.startswith(first.answer)
        sent = first.answer.partition(b"event: error")[0] if first.status == 200 else b""
        assert sent in [b"".join(events(line_end, count)) for count in range(4)]
        assert b"hidden" not in second.answer


@LINE_ENDS
@ENVELOPED
async def test_each_event_leaves_by_itself_and_its_halves_together(line_end: bytes, enveloped: bool) -> None:
    parts = events(line_end)
    halves = [half for part in parts for half in (part[:3], part[3:-1], part[-1:])]
    for pieces in (parts, halves):
        first, second = await twice(wrapped(streaming(*pieces, end=b""), enveloped=enveloped))
        sent = [message["body"] for message in first.sent if message.get("body")]
        assert sent == parts
        assert second.answer == b"".join(parts)


@ENVELOPED
async def test_an_event_without_its_empty_line_ends_a_complete_stream(enveloped: bool) -> None:
    first, second = await twice(wrapped(streaming(b"data: 1\n\nda", end=b"ta: 2"), enveloped=enveloped))
    assert first.answer == second.answer == b"data: 1\n\ndata: 2"


@pytest.mark.parametrize("end", [b"", b"data: 2\n\n", b"data: 2"])
async def test_an_app_that_raises_after_the_end_of_its_stream_is_kept_with_the_error(end: bytes) -> None:
    app = wrapped(streaming(b"data: 1\n\n", end=end, error=ValueError("hidden")), enveloped=True)
    first, second = await twice(app)
    assert first.answer == second.answer
    assert b"event: error" in first.answer
    assert b"data: 2\n\n" not in first.answer.replace(end, b"", 1) if end.endswith(b"\n") else True


async def test_an_app_that_raises_after_the_last_event_has_a_complete_stream() -> None:
    app = wrapped(streaming(b"data: [DONE]\n\n", end=b"", error=ValueError("hidden")), enveloped=True)
    first, second = await twice(app)
    assert first.answer == second.answer == b"data: [DONE]\n\n"


@ENVELOPED
async def test_comments_leave_at_once_and_are_kept(enveloped: bool) -> None:
    app = wrapped(streaming(b"data: 1\n\n", b": ping\n", b"retry: 9\ndata", error=ValueError()), enveloped=enveloped)
    first, second = await twice(app)
    assert second.answer.startswith(b"data: 1\n\n: ping\nretry: 9\nevent: error")
    assert second.answer.startswith(first.answer)


async def test_the_last_line_of_newline_delimited_json_is_kept_as_the_envelope_wrote_it() -> None:
    app = wrapped(
        streaming(b'{"n":1}\n{"n"', error=ValueError("hidden"), headers=[(b"content-type", b"application/x-ndjson")]),
        enveloped=True,
        lines=True,
    )
    first, second = await twice(app)
    assert first.answer == second.answer
    assert first.answer.startswith(b'{"n":1}\n{"error":')


async def test_the_error_event_of_a_responses_stream_is_kept_with_its_number() -> None:
    app = wrapped(streaming(b'data: {"sequence_number":7}\n\n', error=ValueError("hidden")), enveloped=True)
    first, second = [await Caller(app, headers=KEYED, path="/v1/responses")() for _ in range(2)]
    assert first.answer == second.answer
    assert b'"sequence_number":8' in second.answer


@ENVELOPED
async def test_nothing_is_added_to_a_compressed_stream_that_breaks(enveloped: bool) -> None:
    headers = [*EVENT_STREAM, (b"content-encoding", b"gzip")]
    app = wrapped(streaming(b"\x1f\x8b\n\n", error=ValueError("hidden"), headers=headers), enveloped=enveloped)
    first, second = await twice(app)
    assert (first.status, first.answer) == (200, b"\x1f\x8b\n\n")
    assert (second.status, b"\x1f" in second.answer) == (500, False)


@LINE_ENDS
def test_a_replay_over_a_socket_has_the_bytes_of_the_first_response(serve: Serve, line_end: bytes) -> None:
    *parts, last = events(line_end)
    app = wrapped(streaming(*parts, last[:4], error=ValueError("hidden")), enveloped=True)
    url = serve(app).url
    first, second = [httpx.post(url, headers=KEYED, json={}, timeout=LONGEST_WAIT) for _ in range(2)]
    assert first.content == second.content
    assert first.content.startswith(b"".join(parts) + b"event: error")
    assert second.headers["content-length"] == str(len(second.content))
