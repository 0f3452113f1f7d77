"""The end of an app while requests with keys run: what its server has not waited for is cancelled."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from flexmw.envelope import Envelope
from flexmw.idempotency import Idempotency, app_end
from flexmw.idempotency.errors import ExecutionEnded
from flexmw.idempotency.stores.memory import MemoryStore
from tests.idempotency.calls import KEYED, Caller
from tests.waiting import LONGEST_WAIT

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]


class Shop:
    """An app that notes what happens in which order.

    :ivar at_shutdown: awaited while the app shuts down.
    """

    at_shutdown: Callable[[], Awaitable[object]] | None = None

    def __init__(self) -> None:
        self.events: list[str] = []
        self.started, self.proceed = anyio.Event(), anyio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                self.events.append(step)
                if step == "shutdown" and self.at_shutdown is not None:
                    await self.at_shutdown()
                await send({"type": f"lifespan.{step}.complete"})
            return
        try:
            self.started.set()
            await self.proceed.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"done"})
        finally:
            self.events.append("cleaned up")


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    """The lifespan of an app, as a server runs it."""
    up, stop, down = anyio.Event(), anyio.Event(), anyio.Event()

    async def receive() -> Any:
        if up.is_set():
            await stop.wait()
            return {"type": "lifespan.shutdown"}
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        (up if message["type"] == "lifespan.startup.complete" else down).set()

    async with anyio.create_task_group() as group:
        group.start_soon(app, {"type": "lifespan"}, receive, send)
        await up.wait()
        yield
        stop.set()
        with anyio.fail_after(LONGEST_WAIT):
            await down.wait()


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_what_the_server_has_cancelled_is_cancelled_before_the_app_shuts_down(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shop, store = Shop(), MemoryStore()
    app = Idempotency(storage=store).asgi(shop)
    caller = Caller(app, headers=KEYED)
    async with lifespan(app):
        request = asyncio.create_task(caller())
        await shop.started.wait()
        request.cancel()
        await asyncio.sleep(0)
        assert not request.done()  # a cancelled request goes on, as long as the app does
    assert shop.events == ["startup", "cleaned up", "shutdown"]
    assert isinstance((await request).raised, ExecutionEnded)
    again = await Caller(Idempotency(storage=store).asgi(Shop()), headers=KEYED)()
    assert json.loads(again.answer)["error"]["code"] == "idempotency_unknown"
    assert [line.startswith("The app ends while executions") for line in lines(caplog)] == [True]


async def test_what_is_cancelled_at_the_end_is_a_response_and_no_crash(caplog: pytest.LogCaptureFixture) -> None:
    shop = Shop()
    app = Envelope().asgi(Idempotency(storage=MemoryStore()).asgi(shop))
    caller = Caller(app, headers=KEYED)
    async with anyio.create_task_group() as group, lifespan(app):
        group.start_soon(caller)
        await shop.started.wait()
    assert (caller.status, json.loads(caller.answer)["error"]["code"]) == (500, "idempotency_ended")
    assert caller.answer_headers["x-should-retry"] == "false"
    assert len(lines(caplog)) == 1


async def test_what_is_over_and_what_another_app_runs_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    ended, other = Shop(), Shop()
    ended.proceed.set()
    app, other_app = (Idempotency(storage=MemoryStore()).asgi(shop) for shop in (ended, other))
    caller = Caller(other_app, headers=KEYED)
    async with anyio.create_task_group() as group:
        async with lifespan(app):
            assert (await Caller(app, headers=KEYED)()).answer == b"done"
            group.start_soon(caller)
            await other.started.wait()
        assert (other.events, lines(caplog)) == ([], [])
        other.proceed.set()
    assert caller.answer == b"done"


async def test_the_end_of_one_of_two_lifespans_is_not_the_end_of_the_app() -> None:
    shop = Shop()
    app = Idempotency(storage=MemoryStore()).asgi(shop)
    caller = Caller(app, headers=KEYED)
    async with lifespan(app), anyio.create_task_group() as group:
        async with lifespan(app):
            group.start_soon(caller)
            await shop.started.wait()
        shop.proceed.set()
    assert caller.answer == b"done"


async def test_both_of_two_lifespans_that_end_at_the_same_time_are_the_end_of_the_app() -> None:
    shop, stop = Shop(), anyio.Event()
    app = Idempotency(storage=MemoryStore()).asgi(shop)

    async def serve() -> None:
        async with lifespan(app):
            await stop.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        group.start_soon(serve)
        request = asyncio.create_task(Caller(app, headers=KEYED)())
        await shop.started.wait()
        stop.set()
    assert shop.events == ["startup", "startup", "shutdown", "cleaned up", "shutdown"]
    assert isinstance((await request).raised, ExecutionEnded)


async def test_no_execution_begins_while_the_app_shuts_down() -> None:
    shop, store = Shop(), MemoryStore()
    app = Idempotency(storage=store).asgi(shop)
    late = Caller(app, headers=KEYED)
    shop.at_shutdown = late
    async with lifespan(app):
        pass
    assert (late.status, late.answer_headers["retry-after"], shop.events) == (503, "1", ["startup", "shutdown"])
    shop.proceed.set()
    assert (await Caller(app, headers=KEYED)()).answer == b"done"  # the key was given back


async def test_no_execution_begins_where_another_lifespan_is_over_before_the_last_one() -> None:
    shop = Shop()
    app = Idempotency(storage=MemoryStore()).asgi(shop)
    late, is_first_over, stops = Caller(app, headers=KEYED), anyio.Event(), iter((True, False))
    shop.proceed.set()

    async def shut_down() -> None:
        if next(stops):  # the first of the two waits for the second, so that this one is the last
            await is_second_last.wait()
            return
        is_second_last.set()
        await is_first_over.wait()
        await late()

    async def serve() -> None:
        async with lifespan(app):
            await stop.wait()
        is_first_over.set()

    shop.at_shutdown, stop, is_second_last = shut_down, anyio.Event(), anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        group.start_soon(serve)
        await anyio.wait_all_tasks_blocked()
        stop.set()
    assert (late.status, late.answer_headers["retry-after"]) == (503, "1")


async def test_a_reader_of_a_stream_is_not_held_up_by_a_client_that_does_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app_end, "END_SECONDS", 0.0)
    read, stalled = anyio.Event(), anyio.Event()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await Shop()(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await anyio.sleep_forever()

    app = Idempotency(storage=MemoryStore(), attach="all").asgi(stream)

    async def followed(scope: Any, receive: Any, send: Any) -> None:
        async def note(message: Any) -> None:
            await send(message)
            if message["type"] == "http.response.body":
                read.set()

        await app(scope, receive, note)

    async def unread(scope: Any, receive: Any, send: Any) -> None:
        async def stall(message: Any) -> None:
            if message["type"] == "http.response.body":
                await stalled.wait()

        await app(scope, receive, stall)

    reader = Caller(followed, headers=KEYED)
    async with lifespan(app):
        first = asyncio.create_task(Caller(unread, headers=KEYED)())
        follower = asyncio.create_task(reader())
        await read.wait()
    with anyio.fail_after(LONGEST_WAIT):
        await follower
    assert not first.done()
    assert not reader.complete.is_set()
    stalled.set()
    assert isinstance((await first).raised, ExecutionEnded)


async def test_an_app_that_cannot_be_cancelled_does_not_hold_the_end_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_end, "END_SECONDS", 0.0)
    shop = Shop()

    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        try:
            await shop(scope, receive, send)
        except asyncio.CancelledError:
            await go_on.wait()
            raise

    go_on = anyio.Event()
    app = Idempotency(storage=MemoryStore()).asgi(stubborn)
    async with lifespan(app):
        request = asyncio.create_task(Caller(app, headers=KEYED)())
        await shop.started.wait()
    assert not request.done()
    go_on.set()
    with anyio.fail_after(LONGEST_WAIT):
        await asyncio.wait([request])


async def test_the_end_of_an_app_without_a_lifespan_of_its_own_is_known() -> None:
    shop = Shop()

    async def django(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise ValueError("Django can only handle ASGI/HTTP connections, not lifespan.")
        await shop(scope, receive, send)

    app = Idempotency(storage=MemoryStore()).asgi(django)
    caller = Caller(app, headers=KEYED)
    async with anyio.create_task_group() as group, lifespan(app):
        group.start_soon(caller)
        await shop.started.wait()
    assert isinstance(caller.raised, ExecutionEnded)
    assert shop.events == ["cleaned up"]


async def test_an_app_whose_lifespan_nobody_runs_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    shop = Shop()
    shop.proceed.set()
    app = Idempotency(storage=MemoryStore()).asgi(shop)
    for key in ("one", "two"):
        await Caller(app, headers={"idempotency-key": key})()
    (line,) = (record for record in caplog.records if "runs no lifespan" in record.getMessage())
    assert line.levelname == "INFO"
    caplog.clear()
    served = Idempotency(storage=MemoryStore()).asgi(shop)
    async with lifespan(served):
        await Caller(served, headers=KEYED)()
    await Caller(served, headers=KEYED)()
    assert not caplog.records
