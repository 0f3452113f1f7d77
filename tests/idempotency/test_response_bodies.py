"""Bodies of responses: too large to keep, streamed, broken off, shorter or longer than their length."""

from __future__ import annotations

from typing import Any

import pytest

import flexmw
from flexmw.idempotency import Idempotency
from tests.idempotency.calls import KEYED, Caller, Host, call, code

pytestmark = pytest.mark.anyio


async def test_a_response_too_large_to_keep_is_reported_instead_of_repeated() -> None:
    host = Host(parts=(b"x" * 6, b"x" * 6))
    app = Idempotency(max_body=10).asgi(host)
    first, second = await call(app), await call(app)
    assert first.answer == b"x" * 12
    assert (second.status, code(second), host.runs) == (409, "idempotency_answer_not_kept", 1)
    assert "status 200" in second.answer.decode()
    assert "12 bytes" in second.answer.decode()


async def test_a_stream_flows_while_it_is_kept_and_its_replay_has_the_same_events() -> None:
    host = Host()
    caller = Caller(Idempotency().asgi(host), headers=KEYED)
    events = tuple(b"data: %d\n\n" % number for number in range(5))
    flowed: list[int] = []

    async def work(scope: Any, receive: Any, send: Any) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
        await send(start)
        for event in events[:-1]:
            await send({"type": "http.response.body", "body": event, "more_body": True})
            flowed.append(len(caller.sent))
        await send({"type": "http.response.body", "body": events[-1]})

    async def streaming(scope: Any, receive: Any, send: Any) -> None:
        host.runs += 1
        await work(scope, receive, send)

    caller.app = Idempotency().asgi(streaming)
    await caller()
    assert flowed == [2, 3, 4, 5]
    replay = await call(caller.app)
    assert (replay.answer, replay.replayed, host.runs) == (b"".join(events), True, 1)


async def test_a_stream_that_breaks_is_replayed_with_its_error_as_the_last_event() -> None:
    host = Host(
        headers=[(b"content-type", b"text/event-stream")],
        parts=(b"data: 1\n\n", b"data: 2\n\n"),
        error=ValueError("secret"),
        error_after=1,
    )
    app = Idempotency().asgi(host)
    first, second = await call(app), await call(app)
    assert first.raised is host.error
    assert second.answer.startswith(b'data: 1\n\nevent: error\ndata: {"error":')
    assert second.answer.endswith(b"}\n\n")
    assert b"secret" not in second.answer
    assert host.runs == 1


async def test_a_body_that_breaks_is_never_replayed_as_whole() -> None:
    host = Host(parts=(b"half", b"rest"), error=ValueError(), error_after=1)
    app = Idempotency().asgi(host)
    await call(app)
    assert (await call(app)).status == 500


@pytest.mark.parametrize("parts", [(b"half",), (b"half", b"")])
@pytest.mark.parametrize("length", [b"9", b"99999"])
async def test_a_body_shorter_than_its_length_is_never_replayed_as_whole(
    parts: tuple[bytes, ...], length: bytes
) -> None:
    """The server cuts such a response. A gateway sends it for an upstream that breaks off, if a middleware of its own
    ends the body of an app that raises. A replay with the declared length would be cut again, each time."""
    host = Host(parts=parts, headers=[(b"content-length", length)])
    app = Idempotency().asgi(host)
    await call(app)
    replay = await call(app)
    assert (replay.status, code(replay)) == (500, "internal_error")
    assert host.runs == 1


async def test_an_error_that_the_app_begins_within_its_stream_is_never_replayed_as_its_end() -> None:
    """muffin sends its 500 as a second response, and servers refuse the start of one."""
    runs = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal runs
        runs += 1
        await receive()
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"Server got itself in trouble"})

    keyed = flexmw.wrap_app(app, flexmw.Envelope(), Idempotency())
    first, replay = await call(keyed), await call(keyed)
    assert replay.answer == first.answer
    assert replay.answer.startswith(b'data: 1\n\nevent: error\ndata: {"error":')
    assert runs == 1


@pytest.mark.parametrize("status", [404, 500])
async def test_an_error_shorter_than_its_length_is_replayed_as_an_envelope_has_sent_it(status: int) -> None:
    host = Host(status=status, parts=(b"half",), headers=[(b"content-length", b"9")])
    app = flexmw.wrap_app(host, flexmw.Envelope(), Idempotency())
    first, replay = [await call(app) for _ in range(2)]
    assert (first.status, replay.replayed, host.runs) == (status, True, 1)
    assert (replay.status, replay.answer) == (first.status, first.answer)


async def test_a_body_longer_than_its_length_is_replayed_with_its_own_length() -> None:
    host = Host(parts=(b"more than three",), headers=[(b"content-length", b"3"), (b"x-page", b"1")])
    app = Idempotency().asgi(host)
    await call(app)
    replay = await call(app)
    assert (replay.status, replay.answer) == (200, b"more than three")
    assert (replay.answer_headers["content-length"], replay.answer_headers["x-page"]) == ("15", "1")


@pytest.mark.parametrize(("status", "method"), [(304, "POST"), (204, "POST"), (200, "HEAD")])
async def test_the_length_of_a_response_without_a_body_is_about_another_one(status: int, method: str) -> None:
    host = Host(status=status, parts=(b"",), headers=[(b"content-length", b"9")])
    app = Idempotency(methods=("POST", "HEAD")).asgi(host)
    first, replay = [await call(app, method=method) for _ in range(2)]
    assert (replay.status, replay.replayed) == (first.status, True)
    assert replay.answer_headers["content-length"] == "9"


async def test_a_body_sent_as_a_file_is_kept_too() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert "http.response.pathsend" not in scope["extensions"]
        assert "http.response.debug" in scope["extensions"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"file"})

    wrapped = Idempotency().asgi(app)
    extensions = {"http.response.pathsend": {}, "http.response.debug": {}}
    await call(wrapped, extensions=extensions)
    assert (await call(wrapped, extensions=extensions)).answer == b"file"


async def test_a_second_response_of_an_app_does_not_touch_the_one_that_is_stored() -> None:
    async def twice(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": False})
        await send({"type": "http.response.start", "status": 500, "headers": [(b"x-second", b"1")]})
        await send({"type": "http.response.body", "body": b"two"})

    app = flexmw.wrap_app(twice, flexmw.Envelope(), Idempotency())
    first, second = await call(app), await call(app)
    assert second.replayed
    assert (second.status, second.answer) == (first.status, first.answer)
    assert first.answer == b"one"
    assert "x-second" not in second.answer_headers
