"""Executions whose readers have left for good: how long they go on, and what is stored of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

import flexmw
from flexmw.idempotency import Idempotency
from flexmw.idempotency.asgi import IdempotencyApp
from flexmw.idempotency.log import ResponseLog
from flexmw.testing import FakeClock
from tests.idempotency.calls import KEYED, Caller
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio

COUNTED = {"x-stainless-retry-count": "0"}


@dataclass
class Endless:
    """A stream that goes on until ``send`` fails. ``heard`` is set when the app has been told of a disconnect."""

    event: bytes = b"data: 1\n\n"
    limit: int = 1_000_000
    sent: int = 0
    media_type: bytes = b"text/event-stream"
    error: BaseException | None = None
    heard: anyio.Event = field(default_factory=anyio.Event)
    streams: anyio.Event = field(default_factory=anyio.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        async with anyio.create_task_group() as group:
            group.start_soon(self.listen, receive)
            try:
                await send(
                    {"type": "http.response.start", "status": 200, "headers": [(b"content-type", self.media_type)]}
                )
                for _ in range(self.limit):
                    await send({"type": "http.response.body", "body": self.event, "more_body": True})
                    self.sent += 1
                    if self.sent == 3:
                        self.streams.set()
                    await anyio.sleep(0.001)
                await send({"type": "http.response.body"})
            except OSError as error:
                self.error = error
            group.cancel_scope.cancel()

    async def listen(self, receive: Any) -> None:
        if (await receive())["type"] == "http.disconnect":
            self.heard.set()


async def leave(app: Any, host: Endless, **options: Any) -> Caller:
    """A client that leaves after some events; returns when its execution has ended."""
    caller = Caller(app, **options)
    with anyio.fail_after(LONGEST_WAIT):
        async with anyio.create_task_group() as group:
            group.start_soon(caller)
            await host.streams.wait()
            caller.gone.set()
    return caller


async def test_an_event_stream_without_a_key_goes_on_for_ten_seconds_and_gives_its_slot_back() -> None:
    clock, host = FakeClock(), Endless()
    app = flexmw.wrap_app(
        host,
        flexmw.RateLimit(concurrency=1),
        Idempotency(sdk_retries=True, clock=clock, lease=1e6),
    )
    begin = clock.monotonic()
    await leave(app, host, headers=COUNTED)
    assert (host.heard.is_set(), isinstance(host.error, OSError)) == (True, True)
    assert clock.monotonic() - begin >= 10.0
    host.limit = 1
    assert (await Caller(app, headers=COUNTED, body=b"{2}")()).status == 200


async def test_a_stream_with_a_key_goes_on_to_its_end() -> None:
    host = Endless(limit=30)
    app = Idempotency().asgi(host)
    await leave(app, host, headers=KEYED)
    assert (host.sent, host.error) == (30, None)
    assert (await Caller(app, headers=KEYED)()).answer == b"data: 1\n\n" * 30


async def test_what_is_stored_of_an_execution_that_nobody_read_ends_with_an_error() -> None:
    host = Endless()
    app = flexmw.wrap_app(host, flexmw.Envelope(), Idempotency(linger=1.0, clock=FakeClock(), lease=1e6))
    await leave(app, host, headers=KEYED)
    replay = await Caller(app, headers=KEYED)()
    assert replay.replayed
    assert replay.answer.startswith(b"data: 1\n\n" * 3)
    assert b'"code":"idempotency_ended"' in replay.answer


async def test_the_app_hears_of_the_disconnect_after_the_last_reader_and_not_before() -> None:
    clock, host = FakeClock(), Endless()
    app = Idempotency(linger=1.0, clock=clock, lease=1e6).asgi(host)
    assert isinstance(app, IdempotencyApp)
    caller, last_read = Caller(app, headers=KEYED), 0.0
    with anyio.fail_after(LONGEST_WAIT):
        async with anyio.create_task_group() as group:
            group.start_soon(caller)
            await host.streams.wait()
            log = only_log(app)
            assert log.attach()
            caller.gone.set()
            at_least = host.sent + 20
            while host.sent < at_least:
                await anyio.lowlevel.checkpoint()
            assert not host.heard.is_set()
            last_read = clock.monotonic()
            log.detach()
    assert host.heard.is_set()
    assert clock.monotonic() - last_read >= 1.0


def only_log(app: IdempotencyApp) -> ResponseLog:
    (log,) = app._plan.logs._logs.values()  # pyright: ignore[reportPrivateUsage]
    return log


async def test_a_stream_that_nobody_reads_ends_when_nothing_more_can_be_kept() -> None:
    host = Endless()
    app = Idempotency(max_body=1000).asgi(host)
    await leave(app, host, headers=KEYED)
    assert host.heard.is_set()
    assert host.sent <= 1000 // len(host.event) + 1
    assert (await Caller(app, headers=KEYED)()).status == 409


async def test_a_body_that_is_no_stream_of_events_goes_on_without_a_key() -> None:
    host = Endless(limit=30, media_type=b"application/octet-stream")
    app = Idempotency(sdk_retries=True, clock=FakeClock(), lease=1e6).asgi(host)
    await leave(app, host, headers=COUNTED)
    assert (host.sent, host.error) == (30, None)


async def test_a_retry_that_waits_for_a_stream_is_a_reader_of_it() -> None:
    host = Endless(limit=60)
    app = Idempotency(sdk_retries=True, linger=1.0).asgi(host)
    first, retry = Caller(app, headers=COUNTED), Caller(app, headers={"x-stainless-retry-count": "1"})
    with anyio.fail_after(LONGEST_WAIT):
        async with anyio.create_task_group() as group:
            group.start_soon(first)
            await host.streams.wait()
            first.gone.set()
            group.start_soon(retry)
    assert (retry.answer, retry.replayed, host.error) == (b"data: 1\n\n" * 60, True, None)
