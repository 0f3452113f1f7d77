"""The head of an event stream: it waits for the first byte, for a while at most, and for nothing else."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import flexmw
from flexmw.envelope import stream as streams
from tests.waiting import LONGEST_WAIT
from tests.wire import AppResponse, call, scripted

pytestmark = pytest.mark.anyio

SSE = [(b"content-type", b"text/event-stream")]
START = {"type": "http.response.start", "status": 200, "headers": SSE}
PATIENT = flexmw.Envelope(hold=60.0)
HASTY = flexmw.Envelope(hold=0.01)
FAILURE = flexmw.RateLimitExceeded(7)


def part(data: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


class Wire:
    """A server that tells when it has got a message, and may stop to read."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.head = anyio.Event()
        self.reads = True

    async def send(self, message: Any) -> None:
        if not self.reads:
            await anyio.sleep_forever()
        self.messages.append(dict(message))
        if message["type"] == "http.response.start":
            self.head.set()

    async def run(self, app: Any, **scope: Any) -> BaseException | None:
        try:
            await app({"type": "http", "method": "GET", "path": "/", "headers": [], **scope}, self.receive, self.send)
        except Exception as error:
            return error
        return None

    async def receive(self) -> Any:
        await anyio.sleep_forever()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


async def test_the_head_leaves_while_the_app_has_nothing_to_say() -> None:
    wire = Wire()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        with anyio.fail_after(LONGEST_WAIT):
            await wire.head.wait()
        await send(part(b"data: late\n\n"))
        await send(part(b"", more=False))

    assert await wire.run(HASTY.asgi(app)) is None
    assert wire.messages == [START, part(b"data: late\n\n"), part(b"", more=False)]


@pytest.mark.parametrize("first", [b":", b":\n", b": ping\n\n", b"retry: 3000\n", b"data: hal", b"\n", b"data: {}\n\n"])
async def test_any_byte_ends_the_wait(first: bytes) -> None:
    seen: list[bool] = []
    wire = Wire()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        seen.append(wire.head.is_set())
        await send(part(first))
        seen.append(wire.head.is_set())

    await wire.run(PATIENT.asgi(app))
    assert seen == [False, True]


async def test_nothing_does_not_end_the_wait() -> None:
    seen = await call(PATIENT.asgi(scripted(START, part(b""), then=FAILURE)))
    assert (seen.status, seen.error.code) == (429, "rate_limit_exceeded")


async def test_comments_and_retry_leave_at_once_and_a_half_event_does_not() -> None:
    wire = Wire()
    bodies: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        for data in (b": PROCESSING\n", b"retry: 3000\n", b": a", b" ping\r\ndata: ha", b"lf\n", b"\n"):
            await send(part(data))
            bodies.append(wire.body)
        await send(part(b"", more=False))

    assert await wire.run(PATIENT.asgi(app)) is None
    line = b": PROCESSING\nretry: 3000\n"
    assert bodies == [
        b": PROCESSING\n",
        line,
        line,
        line + b": a ping\r\n",
        line + b": a ping\r\n",
        line + b": a ping\r\ndata: half\n\n",
    ]


async def test_a_failure_while_the_head_is_held_has_its_own_status() -> None:
    seen = await call(PATIENT.asgi(scripted(START, then=FAILURE)))
    assert (seen.status, seen.error.code, seen.headers["retry-after"]) == (429, "rate_limit_exceeded", "7")


async def test_a_failure_after_the_wait_is_an_error_event() -> None:
    wire = Wire()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await wire.head.wait()
        raise FAILURE

    assert await wire.run(HASTY.asgi(app)) is None
    assert [message["type"] for message in wire.messages] == ["http.response.start", "http.response.body"]
    assert wire.body.startswith(b'event: error\ndata: {"error":{"message":"Rate limit exceeded.')
    assert not wire.messages[-1]["more_body"]


async def test_without_a_hold_the_head_leaves_at_once() -> None:
    seen = await call(flexmw.Envelope(hold=0).asgi(scripted(START, then=FAILURE)))
    assert seen.status == 200
    assert seen.body.startswith(b"event: error\n")


async def test_the_response_to_a_head_request_is_complete_while_the_app_still_runs() -> None:
    wire = Wire()
    seen: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(part(b"", more=False))
        seen.append(len(wire.messages))  # background tasks of the framework run here

    await wire.run(PATIENT.asgi(app), method="HEAD")
    assert seen == [2]


async def test_errors_of_sending_to_a_head_request_reach_the_app() -> None:
    async def refuse(message: Any) -> None:
        raise OSError("gone")

    caught: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await send(START)
        except OSError as error:
            caught.append(error)

    await PATIENT.asgi(app)({"type": "http", "method": "HEAD", "path": "/", "headers": []}, None, refuse)  # type: ignore[arg-type]
    assert len(caught) == 1


async def test_a_client_that_does_not_read_is_not_waited_for_with_the_last_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "LAST_EVENT_SECONDS", 0.05)
    wire = Wire()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(part(b"data: {}\n\n"))
        wire.reads = False
        with anyio.fail_after(0.05):
            await send(part(b"data: {}\n\n"))

    with anyio.fail_after(LONGEST_WAIT):
        error = await wire.run(PATIENT.asgi(app))
    assert isinstance(error, TimeoutError)
    assert wire.messages == [START, part(b"data: {}\n\n")]


async def test_a_client_that_does_not_even_read_the_head_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LAST_EVENT_SECONDS", 0.05)
    wire = Wire()
    wire.reads = False

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await anyio.sleep(0.03)
        raise ValueError("hidden")

    with anyio.fail_after(LONGEST_WAIT):
        assert isinstance(await wire.run(HASTY.asgi(app)), ValueError)


async def test_the_head_is_sent_once_however_the_first_event_and_the_timer_meet() -> None:
    """The server takes the head slowly: the app's first event waits until the head is out."""
    order: list[str] = []
    entered, go_on = anyio.Event(), anyio.Event()

    async def send_slowly(message: Any) -> None:
        if message["type"] == "http.response.start":
            entered.set()
            await go_on.wait()
        order.append(message["type"])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await entered.wait()  # the timer is sending the head
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send, part(b"data: {}\n\n"))
            await anyio.wait_all_tasks_blocked()
            go_on.set()
        await send(part(b"", more=False))

    await HASTY.asgi(app)({"type": "http", "method": "GET", "path": "/", "headers": []}, None, send_slowly)  # type: ignore[arg-type]
    assert order == ["http.response.start", "http.response.body", "http.response.body"]


async def test_lines_of_json_open_as_well() -> None:
    start = {**START, "headers": [(b"content-type", b"application/x-ndjson")]}
    wire = Wire()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start)
        with anyio.fail_after(LONGEST_WAIT):
            await wire.head.wait()
        await send(part(b'{"a":1}\n'))
        raise FAILURE

    assert await wire.run(flexmw.Envelope(lines=True, hold=0.01).asgi(app)) is None
    assert wire.body.startswith(b'{"a":1}\n{"error":')


async def test_an_event_in_many_pieces_is_searched_once() -> None:
    """Each piece was searched together with all pieces before it: 640 KB in pieces of 4 bytes took a minute."""
    pieces = [part(b"aaaa") for _ in range(20_000)]
    with anyio.fail_after(LONGEST_WAIT):
        seen: AppResponse = await call(PATIENT.asgi(scripted(START, *pieces, part(b"\n\n"), part(b"", more=False))))
    assert seen.body == b"aaaa" * 20_000 + b"\n\n"


async def test_a_replay_agrees_on_whether_the_head_was_out_when_the_stream_failed() -> None:
    for hold in (60.0, 0):
        first, second = [
            await call(app, method="POST", headers=[(b"idempotency-key", b"k")], receives=[{"type": "http.request"}])
            for app in [
                flexmw.wrap_app(
                    scripted(START, then=ValueError("hidden")), flexmw.Envelope(hold=hold), flexmw.Idempotency()
                )
            ]
            * 2
        ]
        assert (first.status, first.body) == (second.status, second.body)
        assert first.status == (500 if hold else 200)
