"""The store dies between the claim and the result: no client waits for it longer than ``store_timeout``, and the
outcome is written when the store is back."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sqlite3
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import anyio
import pytest

import flexmw
from flexmw.idempotency import Idempotency, late_outcomes
from flexmw.idempotency.core import Record
from flexmw.idempotency.late_outcomes import LateOutcomes
from flexmw.idempotency.stores.memory import MemoryStore
from flexmw.testing import FakeClock
from tests.idempotency.calls import KEYED, Caller, Host
from tests.servers import Child
from tests.stores import client_of
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio
FOREVER = 1e6


class Leaving(MemoryStore):
    """A store that can be taken away, and says when it is closed."""

    is_away = is_closed = False

    async def swap(self, key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float) -> Any:
        if self.is_away:
            raise ConnectionError("the store is away")
        return await super().swap(key, expected, token, entry, lease=lease, ttl=ttl)

    async def drop(self, key: str, token: str) -> bool:
        if self.is_away:
            raise ConnectionError("the store is away")
        return await super().drop(key, token)

    async def aclose(self) -> None:
        self.is_closed = True


def loses(store: Leaving, *, status: int = 200, parts: tuple[bytes, ...] | None = None, error: Any = None) -> Host:
    """An app whose store is away when its first run ends."""
    host = Host(status=status, parts=parts, error=error)

    async def work(scope: Any, receive: Any, send: Any) -> None:
        store.is_away = host.runs == 1

    host.work = work
    return host


async def call(app: Any, headers: dict[str, str] = KEYED) -> Caller:
    with anyio.fail_after(LONGEST_WAIT):
        return await Caller(app, headers=headers)()


def late(app: Any) -> LateOutcomes:
    outcomes: LateOutcomes = app._plan.late_outcomes
    return outcomes


async def written(app: Any) -> None:
    with anyio.fail_after(LONGEST_WAIT):
        while len(late(app)):  # noqa: ASYNC110 - the end of a background task
            await anyio.sleep(0.01)


@pytest.mark.parametrize("parts", [None, (b"data: 1\n\n", b"data: 2\n\n")], ids=["JSON", "stream"])
async def test_a_call_ends_without_its_store_and_its_response_is_stored_when_the_store_is_back(parts: Any) -> None:
    store = Leaving()
    host = loses(store, parts=parts)
    if parts:
        host.headers = [(b"content-type", b"text/event-stream")]
    app = Idempotency(storage=store, lease=FOREVER, store_timeout=0.05).asgi(host)
    first = await call(app)
    duplicate = await call(app)
    assert (first.status, duplicate.status, len(late(app))) == (200, 503, 1)
    store.is_away = False
    await written(app)
    replay = await call(app)
    assert (replay.answer, replay.replayed, host.runs) == (first.answer, True, 1)


async def test_the_end_of_a_stream_that_an_envelope_holds_does_not_wait_for_the_store() -> None:
    store = Leaving()
    host = loses(store, parts=(b"data: 1\n\n", b"data: 2\n\n"))
    host.headers = [(b"content-type", b"text/event-stream")]
    protected = Idempotency(storage=store, lease=FOREVER, store_timeout=0.05).asgi(host)
    app = flexmw.Envelope().asgi(protected)
    first = await call(app)
    assert first.answer == b"data: 1\n\ndata: 2\n\n"
    store.is_away = False
    await written(protected)
    assert (await call(app)).answer == first.answer


async def test_half_a_stream_whose_framework_ends_it_is_not_stored_as_a_whole_one() -> None:
    """The store is away for longer than the end of a stream waits for the exception of the app."""
    store = Leaving()
    host = Host(parts=(b"data: 1\n\n", b""))

    async def work(scope: Any, receive: Any, send: Any) -> None:
        await host(scope, receive, send)
        store.is_away = host.runs == 1
        raise ConnectionError("the model died")

    app = Idempotency(storage=store, lease=FOREVER, store_timeout=0.5).asgi(work)
    first = await call(app)
    assert (first.answer, first.sent[-1]["more_body"]) == (b"data: 1\n\n", True)
    store.is_away = False
    await written(app)
    replay = await call(app)
    assert (replay.replayed, replay.answer == first.answer, b"internal_error" in replay.answer) == (True, False, True)


async def test_an_exception_is_stored_when_the_store_is_back() -> None:
    store = Leaving()
    host = loses(store, error=LookupError())
    app = Idempotency(storage=store, lease=FOREVER, store_timeout=0.05).asgi(host)
    assert isinstance((await call(app)).raised, LookupError)
    store.is_away = False
    await written(app)
    replay = await call(app)
    assert (replay.status, replay.replayed, host.runs) == (500, True, 1)


async def test_a_key_is_given_back_late() -> None:
    store = Leaving()
    host = loses(store, status=429)
    app = Idempotency(storage=store, lease=FOREVER, store_timeout=0.05).asgi(host)
    assert (await call(app)).status == 429
    store.is_away = False
    await written(app)
    assert ((await call(app)).status, host.runs) == (429, 2)


async def test_a_call_of_an_sdk_is_concluded_late() -> None:
    store = Leaving()
    host = loses(store)
    app = Idempotency(storage=store, lease=FOREVER, store_timeout=0.05, sdk_retries=True).asgi(host)
    await call(app, {"x-stainless-retry-count": "0"})
    store.is_away = False
    await written(app)
    retry = await call(app, {"x-stainless-retry-count": "1"})
    assert (retry.answer, retry.replayed) == (b"run 1", True)
    assert (await call(app, {"x-stainless-retry-count": "0"})).answer == b"run 2"


async def test_the_key_keeps_its_heartbeats_until_the_outcome_is_written() -> None:
    store, extended = Leaving(clock=FakeClock()), anyio.Event()
    app = Idempotency(storage=store, clock=store._clock, lease=60.0).asgi(loses(store))
    extend = store.extend

    async def observed(*arguments: Any, **times: Any) -> bool:
        if len(late(app)):
            extended.set()
        return await extend(*arguments, **times)

    store.extend = observed  # type: ignore[method-assign]
    await call(app)
    with anyio.fail_after(LONGEST_WAIT):
        await extended.wait()
    await written(app)


class RefusesResponses(MemoryStore):
    """A store that takes claims, and no response until it is told to."""

    takes_responses = False

    async def swap(self, key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float) -> Any:
        if not self.takes_responses and Record.decode(entry).phase == "done":
            raise ConnectionError("the store is away")
        return await super().swap(key, expected, token, entry, lease=lease, ttl=ttl)


@pytest.mark.parametrize("on_unknown", ["refuse", "run"])
async def test_a_key_whose_outcome_is_late_does_not_run_again_when_its_lease_has_run_out(on_unknown: Any) -> None:
    clock, host = FakeClock(now=1_800_000_000.0), Host()
    store = RefusesResponses(clock=clock)
    app = Idempotency(storage=store, lease=3600.0, store_timeout=0.05, on_unknown=on_unknown).asgi(host)
    first = await call(app)
    clock.advance(3601.0)
    again = await call(app)
    assert (first.status, again.status, host.runs) == (200, 409, 1)
    assert b"idempotency_in_progress" in again.answer
    store.takes_responses = True
    await written(app)
    assert (await call(app)).replayed


async def test_an_outcome_that_the_store_does_not_take_for_a_lease_is_lost_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock()
    store = Leaving(clock=clock)
    host = loses(store)
    app = Idempotency(storage=store, clock=clock, lease=60.0).asgi(host)
    await call(app)
    await written(app)
    store.is_away = False
    clock.advance(61.0)
    unknown = await call(app)
    assert (unknown.status, host.runs) == (409, 1)
    assert b"idempotency_unknown" in unknown.answer
    assert [record.msg[:61] for record in caplog.records] == [
        "The outcome of an execution is lost: the store did not take it"[:61]
    ]


def kept(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The reasons of the lines about outcomes that are kept for the next request."""
    lines = [record for record in caplog.records if record.msg.startswith("The outcome of an execution is not stored")]
    assert all((line.name, line.levelno) == ("flexmw.idempotency", logging.WARNING) for line in lines)
    return [str(line.args[0]) for line in lines if isinstance(line.args, tuple)]


async def end_lifespan(app: Any) -> None:
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None: ...

    with anyio.fail_after(LONGEST_WAIT):
        await app({"type": "lifespan"}, receive, send)


def with_lifespan(host: Host, at_end: Callable[[], None] = lambda: None) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await host(scope, receive, send)
            return
        for step in ("startup", "shutdown"):
            await receive()
            if step == "shutdown":
                at_end()
            await send({"type": f"lifespan.{step}.complete"})

    return app


async def test_the_end_of_the_app_waits_for_late_outcomes_before_it_closes_the_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(late_outcomes, "DRAIN_SECONDS", LONGEST_WAIT)
    store = Leaving()
    host = loses(store)
    app = Idempotency(storage=store, lease=FOREVER, store_timeout=0.05).asgi(
        with_lifespan(host, lambda: setattr(store, "is_away", False))
    )
    await call(app)
    await end_lifespan(app)
    assert (store.is_closed, len(late(app))) == (True, 0)
    assert (await call(app)).replayed


async def test_the_end_of_the_app_does_not_wait_for_ever(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late_outcomes, "DRAIN_SECONDS", 0.1)
    monkeypatch.setattr(late_outcomes, "RESUME_SECONDS", LONGEST_WAIT)
    store = Leaving()
    app = Idempotency(storage=store, lease=FOREVER, store_timeout=0.05).asgi(with_lifespan(loses(store)))
    await call(app)
    await end_lifespan(app)
    assert (store.is_closed, len(late(app))) == (True, 0)
    assert kept(caplog) == ["the app ended before the store took it"]
    store.is_away = False
    assert (await call(app)).replayed  # the app begins again, as it does for each call of some adapters


@pytest.mark.parametrize("cancels", [True, False], ids=["asyncio.run", "a loop that is closed"])
def test_what_an_event_loop_leaves_behind_is_named_and_written_by_the_next_request(
    cancels: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adapters of serverless platforms run a loop for each call, or close the one that they have."""
    monkeypatch.setattr(late_outcomes, "RESUME_SECONDS", LONGEST_WAIT)
    store = Leaving()
    app = Idempotency(storage=store, lease=FOREVER, store_timeout=0.05).asgi(with_lifespan(loses(store)))

    async def main() -> None:
        assert (await call(app)).status == 200

    if cancels:
        asyncio.run(main())
    else:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        asyncio.run(end_lifespan(app))
        gc.collect()
    assert len(late(app)) == 0
    assert kept(caplog) == ["the event loop ended before the store took it"]
    store.is_away = False

    async def again() -> None:
        replay = await call(app)
        assert (replay.answer, replay.replayed) == (b"run 1", True)

    asyncio.run(again())
    gc.collect()
    assert not [record for record in caplog.records if record.name == "asyncio"]  # its line about a destroyed task


def test_no_more_outcomes_are_kept_than_the_bound(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late_outcomes, "_MAX_KEPT", 1)
    outcomes, ended = LateOutcomes(), list[int]()

    async def never() -> bool:
        await anyio.sleep_forever()
        return True

    async def main() -> None:
        for number in range(3):
            outcomes.add(never, partial(ended.append, number))

    asyncio.run(main())
    assert sorted(ended) == [0, 1, 2]
    assert [record.msg.split(":")[0] for record in caplog.records].count("The outcome of an execution is lost") == 2
    assert len(kept(caplog)) == 1


class Gate:
    """An app that waits in the middle of its work."""

    def __init__(self) -> None:
        self.entered, self.opened, self.runs = asyncio.Event(), asyncio.Event(), 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.runs += 1
        self.entered.set()
        await self.opened.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


@contextlib.contextmanager
def locked(file: Path) -> Generator[None]:
    other = sqlite3.connect(file, isolation_level=None)
    try:
        other.execute("begin immediate")
        yield
        other.execute("rollback")
    finally:
        other.close()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("name", ["redis", "sqlite"])
async def test_a_call_ends_while_a_real_store_stands_still(name: str, request: Any, tmp_path: Path) -> None:
    if name == "redis":
        url, server = request.getfixturevalue("redis_url"), request.getfixturevalue("redis_server")
    else:
        url, server = f"sqlite:///{tmp_path}/keys.db", None
    gate = Gate()
    component = flexmw.Idempotency(storage=url, store_timeout=0.5, lease=FOREVER)
    entered = asyncio.create_task(gate.entered.wait())
    async with client_of(flexmw.wrap_app(gate, flexmw.Envelope(), component)) as client, asyncio.timeout(LONGEST_WAIT):
        while True:  # a machine that stands still may refuse the claim
            headers = {"Idempotency-Key": token_hex(8)}
            first = asyncio.create_task(client.post("/", headers=headers))
            await asyncio.wait((first, entered), return_when=asyncio.FIRST_COMPLETED)
            if entered.done():
                break
        with server.frozen() if isinstance(server, Child) else locked(tmp_path / "keys.db"):
            gate.opened.set()
            assert (await first).content == b"done"  # the transport waits for the end of the call
        while (replay := await client.post("/", headers=headers)).status_code != 200:  # noqa: ASYNC110 - a store
            await asyncio.sleep(0.05)
        assert (replay.content, replay.headers["idempotent-replayed"], gate.runs) == (b"done", "true", 1)
