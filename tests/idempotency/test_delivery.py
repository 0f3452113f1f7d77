"""The client of a stream's first request: what it is sent, in which order, and what happens when it does not read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import anyio
import pytest
from opentelemetry.sdk.trace import TracerProvider

import flexmw
from flexmw.contract.idempotent_stream import format_stream, parse_stream
from flexmw.idempotency import Idempotency
from flexmw.idempotency.response_head import stream_field
from flexmw.idempotency.signals import DONE
from flexmw.kit.asgi import Message
from tests.idempotency.calls import KEYED, Caller, Host
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio

EVENT_STREAM: Final = [(b"content-type", b"text/event-stream")]
EVENTS: Final = tuple(b"data: %d\n\n" % number for number in range(200))


class Stalling(Caller):
    """A client that takes one body message and then reads no more, until ``reads`` is set."""

    async def __call__(self) -> Caller:
        self.reads = anyio.Event()
        app = self.app

        async def stalling(scope: Any, receive: Any, send: Any) -> None:
            async def stall(message: Message) -> None:
                if message.get("body"):
                    await send(message)
                    await self.reads.wait()
                else:
                    await send(message)

            await app(scope, receive, stall)

        self.app = stalling
        return await super().__call__()


async def test_a_client_that_does_not_read_does_not_delay_the_app() -> None:
    finished = anyio.Event()
    host = Host(parts=(*EVENTS, b""), headers=EVENT_STREAM)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await host(scope, receive, send)
        finished.set()

    wrapped = Idempotency(wait=LONGEST_WAIT).asgi(app)
    first = Stalling(wrapped, headers=KEYED)
    async with anyio.create_task_group() as group:
        group.start_soon(first)
        with anyio.fail_after(LONGEST_WAIT):
            await finished.wait()
            second = await Caller(wrapped, headers=KEYED)()
        assert second.replayed
        assert second.answer == b"".join(EVENTS)
        assert first.answer == EVENTS[0]
        first.reads.set()
    assert first.answer == b"".join(EVENTS)
    assert [message["body"] for message in first.sent[1:]] == [*EVENTS, b""]
    assert host.runs == 1


async def test_the_app_is_never_ahead_of_a_client_that_does_not_read_by_more_than_max_body() -> None:
    sent, full = list[bytes](), anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(50):
            await send({"type": "http.response.body", "body": b"x" * 100, "more_body": True})
            sent.append(b"x")
            if len(sent) == 10:
                full.set()
        await send({"type": "http.response.body"})

    wrapped = Idempotency(max_body=1000).asgi(app)
    first = Stalling(wrapped, headers=KEYED)
    async with anyio.create_task_group() as group:
        group.start_soon(first)
        with anyio.fail_after(LONGEST_WAIT):
            await full.wait()
        await anyio.wait_all_tasks_blocked()
        assert len(sent) == 10
        first.reads.set()
    assert first.answer == b"x" * 5000
    second = await Caller(wrapped, headers=KEYED)()
    assert (second.status, len(sent)) == (409, 50)


async def test_a_client_that_leaves_while_a_message_waits_ends_the_delivery_and_not_the_work() -> None:
    host = Host(parts=EVENTS, headers=EVENT_STREAM)
    wrapped = Idempotency().asgi(host)
    first = Stalling(wrapped, headers=KEYED)
    async with anyio.create_task_group() as group:
        group.start_soon(first)
        with anyio.fail_after(LONGEST_WAIT):
            await host.started.wait()
            first.gone.set()
    second = await Caller(wrapped, headers=KEYED)()
    assert (second.answer, second.replayed, host.runs) == (b"".join(EVENTS), True, 1)


async def test_the_observers_of_a_stream_hear_of_its_end_before_the_app_goes_on() -> None:
    order: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        flexmw.kit.exchange.Exchange.of(scope).subscribe(lambda event, _: order.append(event))
        await send({"type": "http.response.start", "status": 200, "headers": EVENT_STREAM})
        for event in EVENTS[:3]:
            await send({"type": "http.response.body", "body": event, "more_body": True})
            order.append("sent")
        await send({"type": "http.response.body"})
        order.append("ended")

    await Caller(flexmw.wrap_app(app, flexmw.Envelope(), Idempotency()), headers=KEYED)()
    streams = [event for event in order if not event.startswith("flexmw.idempotency")]
    begun = ["flexmw.stream.held", "flexmw.stream.began"]
    assert streams == [*begun, "sent", "sent", "sent", "flexmw.stream.ended", "ended"]


async def test_a_middleware_that_enters_a_scope_in_send_keeps_it_in_one_task() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await Host(parts=EVENTS[:20], headers=EVENT_STREAM)(scope, receive, send)

    wrapped = Idempotency().asgi(app)

    async def outside(scope: Any, receive: Any, send: Any) -> None:
        lock = anyio.Lock()

        async def scoped(message: Message) -> None:
            async with lock:
                with anyio.fail_after(LONGEST_WAIT):
                    await anyio.sleep(0.001)
                    await send(message)

        await wrapped(scope, receive, scoped)

    first = await Caller(outside, headers=KEYED)()
    assert (first.answer, first.raised) == (b"".join(EVENTS[:20]), None)


async def test_a_keyed_response_says_that_it_can_be_continued() -> None:
    caller = await Caller(Idempotency().asgi(Host(parts=EVENTS, headers=EVENT_STREAM)), headers=KEYED)()
    position = parse_stream([caller.answer_headers["idempotent-stream"]])
    assert (position.start, position.confirm) == (None, False)
    assert caller.answer_headers["x-accel-buffering"] == "no"
    assert caller.answer_headers["cache-control"] == "no-store, no-transform"


@pytest.mark.parametrize(
    "response", [{"status": 404}, {"status": 302}, {"headers": [(b"content-length", b"9999999")]}], ids=str
)
async def test_a_response_that_cannot_be_continued_does_not_say_so(response: Any) -> None:
    caller = await Caller(Idempotency().asgi(Host(**response)), headers=KEYED)()
    assert "idempotent-stream" not in caller.answer_headers


async def test_what_the_app_says_of_caches_and_buffers_stands_and_a_foreign_field_does_not() -> None:
    headers = [*EVENT_STREAM, (b"Cache-Control", b"private"), (b"X-Accel-Buffering", b"yes")]
    host = Host(headers=[*headers, (b"Idempotent-Stream", b'"0123456789abcdef0123456789"')])
    caller = await Caller(Idempotency().asgi(host), headers=KEYED)()
    values = [value for name, value in caller.sent[0]["headers"] if name.lower() == b"idempotent-stream"]
    assert len(values) == 1
    assert b"0123456789abcdef" not in values[0]
    assert [name.lower() for name, _ in caller.sent[0]["headers"]].count(b"cache-control") == 1


@pytest.mark.parametrize(
    ("version", "headers", "confirm"),
    [
        ("1.0", [], True),
        ("1", [], True),
        ("1.1", [], False),
        ("2", [], False),
        ("1.0", [(b"content-length", b"5")], False),
    ],
)
async def test_an_end_that_http_1_0_cannot_show_is_to_be_confirmed(
    version: str, headers: list[tuple[bytes, bytes]], confirm: bool
) -> None:
    caller = Caller(Idempotency().asgi(Host(headers=headers)), headers=KEYED)
    caller.scope["http_version"] = version
    await caller()
    assert parse_stream([caller.answer_headers["idempotent-stream"]]).confirm is confirm


@pytest.mark.parametrize("confirm", [True, False])
def test_the_field_is_written_as_the_specification_says(confirm: bool) -> None:
    generation = "0123456789abcdef01234567"
    assert stream_field(generation, confirm=confirm).decode() == format_stream(generation, confirm=confirm)


async def test_a_request_without_a_key_is_not_told_of_a_stream() -> None:
    app = Idempotency(sdk_retries=True).asgi(Host(parts=EVENTS, headers=EVENT_STREAM))
    caller = await Caller(app, headers={"x-stainless-retry-count": "0"})()
    assert {"idempotent-stream", "cache-control", "x-accel-buffering"}.isdisjoint(caller.answer_headers)


async def test_a_server_whose_send_returns_another_awaitable_than_a_coroutine_gets_each_message() -> None:
    class Sending:
        def __init__(self, work: Any) -> None:
            self.work = work

        def __await__(self) -> Any:
            return self.work.__await__()

    wrapped = Idempotency().asgi(Host(parts=EVENTS[:20], headers=EVENT_STREAM))

    async def outside(scope: Any, receive: Any, send: Any) -> None:
        await wrapped(scope, receive, lambda message: Sending(send(message)))

    first = await Caller(outside, headers=KEYED)()
    second = await Caller(wrapped, headers=KEYED)()
    assert [message["body"] for message in first.sent[1:]] == [*EVENTS[:19], EVENTS[19]]
    assert (second.answer, second.replayed) == (first.answer, True)


@pytest.mark.parametrize(
    "part",
    [
        b"",
        b"\n",
        b"d",
        b"data: 1",
        b"data: 1\n",
        b"data: 1\n\n",
        b"data: 1\r\n\r\n",
        b"data: 1\r\r",
        b"data: 1\n\ndata: 2",
        bytearray(b"data: 1\n\n"),
        memoryview(b"data: 1\n\n"),
    ],
    ids=lambda chunk: f"{type(chunk).__name__}-{bytes(chunk)!r}",
)
async def test_a_chunk_of_any_form_is_sent_in_whole_events_and_kept(part: Any) -> None:
    """A chunk that is one whole event takes a shorter way than any other."""
    whole = b"data: 0\n\n"
    host = Host(parts=(whole, whole, part, b": a rest\n\n", whole, b""), headers=EVENT_STREAM)
    app = Idempotency().asgi(host)
    first = await Caller(app, headers=KEYED)()
    bodies = [message["body"] for message in first.sent[1:-1]]
    assert first.answer == whole + whole + bytes(part) + b": a rest\n\n" + whole
    assert all(body.endswith((b"\n\n", b"\n\r\n", b"\r\r")) for body in bodies if body)
    second = await Caller(app, headers=KEYED)()
    assert (second.answer, second.replayed) == (first.answer, True)


async def test_a_message_without_more_body_ends_the_stream() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": EVENT_STREAM})
        for event in EVENTS[:3]:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "more_body": True})
        await send({"type": "http.response.body", "body": EVENTS[3]})

    first = await Caller(Idempotency().asgi(app), headers=KEYED)()
    assert first.answer == b"".join(EVENTS[:4])


def in_time(sending: Any) -> Any:
    return asyncio.wait_for(sending, LONGEST_WAIT)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    "call",
    [
        asyncio.create_task,
        asyncio.ensure_future,
        asyncio.gather,
        asyncio.shield,
        in_time,
    ],
)
async def test_an_app_may_do_with_the_result_of_send_what_it_does_with_a_coroutine(call: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": EVENT_STREAM})
        for event in EVENTS:
            await call(send({"type": "http.response.body", "body": event, "more_body": True}))
        async with anyio.create_task_group() as group:
            group.start_soon(send, {"type": "http.response.body", "body": EVENTS[0], "more_body": True})
        await call(send({"type": "http.response.body", "body": b""}))

    first = await Caller(Idempotency().asgi(app), headers=KEYED)()
    assert first.raised is None
    assert first.answer == b"".join(EVENTS) + EVENTS[0]


async def test_a_send_that_is_done_raises_what_is_thrown_into_it() -> None:
    with pytest.raises(StopIteration):
        DONE.send(None)
    with pytest.raises(LookupError):
        DONE.throw(LookupError())
    DONE.close()
    assert [await DONE, await DONE] == [None, None]


def recording_tagging() -> flexmw.Tagging:
    return flexmw.Tagging(server_span=True, tracer_provider=TracerProvider())


def counting_usage() -> flexmw.RateLimit:
    return flexmw.RateLimit(tokens="1000/day", token_cost=500, usage=lambda value: value.get("used"))


OUTSIDE: Final[dict[str, list[Callable[[], Any]]]] = {
    "nothing": [],
    "envelope": [flexmw.Envelope],
    "tagging": [recording_tagging],
    "limiter": [counting_usage],
    "all": [recording_tagging, flexmw.Envelope, counting_usage],
}


@pytest.mark.parametrize("outside", OUTSIDE)
async def test_a_server_gets_nothing_more_for_a_client_that_has_left_and_the_log_gets_all(outside: str) -> None:
    left, ended = anyio.Event(), anyio.Event()
    late = [*EVENTS[1:], b'data: {"used": 7}\n\n']

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": EVENT_STREAM})
        await send({"type": "http.response.body", "body": EVENTS[0], "more_body": True})
        await left.wait()
        for _ in range(20):  # turns in which the disconnect reaches each component
            await anyio.lowlevel.checkpoint()
        for event in late:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body"})
        ended.set()

    components = [make() for make in OUTSIDE[outside]]
    wrapped = flexmw.wrap_app(app, *components, Idempotency())
    first = Caller(wrapped, headers=KEYED)
    sent_late = list[Message]()

    async def serving(scope: Any, receive: Any, send: Any) -> None:
        async def count(message: Message) -> None:
            if left.is_set():
                sent_late.append(message)
            await send(message)

        async def tell() -> Message:
            message: Message = await receive()
            if message["type"] == "http.disconnect":
                left.set()
            return message

        await wrapped(scope, tell, count)

    first.app = serving
    async with anyio.create_task_group() as group:
        group.start_soon(first)
        with anyio.fail_after(LONGEST_WAIT):
            while first.answer != EVENTS[0]:
                await anyio.lowlevel.checkpoint()
            first.gone.set()
            await ended.wait()
    assert first.raised is None
    assert sent_late == []
    second = await Caller(wrapped, headers=KEYED)()
    assert (second.answer, second.replayed) == (EVENTS[0] + b"".join(late), True)
    for limit in components:
        if isinstance(limit, flexmw.RateLimit):
            assert second.answer_headers["x-ratelimit-remaining-tokens"] == "493"  # 7, and the estimate of the replay


async def test_a_server_that_repeats_the_end_of_the_body_for_ever_holds_nobody_up() -> None:
    host = Host(parts=EVENTS[:5], headers=EVENT_STREAM).hold()
    wrapped = Idempotency(wait=LONGEST_WAIT).asgi(host)

    async def repeating(scope: Any, receive: Any, send: Any) -> None:
        async def repeat() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        await wrapped(scope, repeat, send)

    first, second = Caller(repeating, headers=KEYED), Caller(repeating, headers=KEYED)
    async with anyio.create_task_group() as group:
        group.start_soon(first)
        with anyio.fail_after(LONGEST_WAIT):
            await host.started.wait()
            group.start_soon(second)
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
            host.proceed.set()
    assert first.answer == second.answer == b"".join(EVENTS[:5])
    assert (host.runs, second.replayed) == (1, True)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_chunk_that_is_sent_outside_of_all_tasks_is_sent_and_kept_once(anyio_backend: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        def send_in_a_callback() -> None:
            with suppress(Exception):  # nothing can wait here
                send({"type": "http.response.body", "body": EVENTS[1], "more_body": True}).__await__().send(None)
            is_sent.set()

        is_sent = anyio.Event()
        await send({"type": "http.response.start", "status": 200, "headers": EVENT_STREAM})
        await send({"type": "http.response.body", "body": EVENTS[0], "more_body": True})
        asyncio.get_running_loop().call_soon(send_in_a_callback)
        with anyio.fail_after(LONGEST_WAIT):
            await is_sent.wait()
        await send({"type": "http.response.body", "body": EVENTS[2]})

    wrapped = Idempotency().asgi(app)
    first = await Caller(wrapped, headers=KEYED)()
    second = await Caller(wrapped, headers=KEYED)()
    assert (second.answer, second.replayed) == (first.answer, True)
    assert first.answer == b"".join(EVENTS[:3])
