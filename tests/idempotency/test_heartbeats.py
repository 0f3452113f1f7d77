"""Heartbeats: one timer renews the leases of all executions of an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from flexmw.idempotency import Idempotency
from flexmw.idempotency.claim import Claim, Claims
from flexmw.idempotency.core import KeyedRequest
from flexmw.idempotency.heartbeats import Heartbeats
from flexmw.idempotency.stores.memory import MemoryStore
from flexmw.idempotency.turns import Turns
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.log_limit import LogLimit
from flexmw.testing import FakeClock
from tests.idempotency.calls import KEYED, Caller, Host
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio


class CountingStore(MemoryStore):
    """Counts heartbeats. ``fails`` of them are refused."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        super().__init__(clock=clock)
        self.extended: list[str] = []
        self.fails = 0
        self.enough_at = 0.0
        self.enough = anyio.Event()
        self.wanted = 1

    async def extend(self, key: str, token: str, *, lease: float, ttl: float) -> bool:
        if self.fails:
            self.fails -= 1
            raise ConnectionError
        self.extended.append(key)
        if len(self.extended) == self.wanted:
            self.enough_at = self._clock.monotonic()
            self.enough.set()
        return await super().extend(key, token, lease=lease, ttl=ttl)


class ManyStore(CountingStore):
    """Renews many leases in one call."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        super().__init__(clock)
        self.calls: list[int] = []

    async def extend_many(self, leases: Sequence[tuple[str, str, float, float]]) -> Sequence[bool]:
        self.calls.append(len(leases))
        return [await self.extend(key, token, lease=lease, ttl=ttl) for key, token, lease, ttl in leases]


async def claimed(store: MemoryStore, count: int, *, lease: float, clock: Clock = SYSTEM) -> list[Claim]:
    claims = Claims(store=store, clock=clock, lease=lease, ttl=600.0, sdk_window=60.0, on_unknown="refuse")
    request = KeyedRequest(key="", fingerprint="f", now=0.0)
    made = [await claims.claim(f"k{number}", request, ttl=600.0) for number in range(count)]
    assert all(isinstance(claim, Claim) for claim in made)
    return made  # type: ignore[return-value]


def ignore() -> None: ...


async def test_all_keys_of_an_event_loop_are_renewed_in_one_call_where_the_store_offers_that() -> None:
    # The clock stands still between the keys. A real one moves on, and keys that are due at two times take two calls.
    clock = FakeClock()
    store = ManyStore(clock)
    store.wanted = 15
    keys = Heartbeats().of_loop()
    claims = await claimed(store, 5, lease=60.0, clock=clock)
    for claim in claims:
        keys.add(claim, ignore)
    with anyio.fail_after(LONGEST_WAIT):
        await store.enough.wait()
    for claim in claims:
        keys.remove(claim)
    assert store.calls == [5] * len(store.calls)
    assert len(store.calls) >= 3


async def test_a_key_that_has_ended_is_not_renewed() -> None:
    store, keys = CountingStore(), Heartbeats().of_loop()
    first, second = await claimed(store, 2, lease=0.03)
    keys.add(first, ignore)
    keys.add(second, ignore)
    keys.remove(first)
    with anyio.fail_after(LONGEST_WAIT):
        await store.enough.wait()
    keys.remove(second)
    assert set(store.extended) == {"k1"}


async def test_a_heartbeat_that_the_store_did_not_take_comes_again_within_a_second() -> None:
    clock = FakeClock()
    store = CountingStore(clock)
    store.fails, begin = 3, clock.monotonic()
    (claim,) = await claimed(store, 1, lease=60.0, clock=clock)
    keys = Heartbeats().of_loop()
    keys.add(claim, ignore)
    with anyio.fail_after(LONGEST_WAIT):
        await store.enough.wait()
    keys.remove(claim)
    assert 20.0 <= store.enough_at - begin <= 24.0


async def test_a_key_that_another_attempt_has_taken_over_is_not_renewed_any_more() -> None:
    clock = FakeClock()
    store = CountingStore(clock)
    (claim,) = await claimed(store, 1, lease=60.0, clock=clock)
    held = await store.load("k0")
    assert held is not None
    await store.swap("k0", held.token, "another", b"", lease=60.0, ttl=600.0)
    keys = Heartbeats().of_loop()
    keys.add(claim, ignore)
    with anyio.fail_after(LONGEST_WAIT):
        await store.enough.wait()
        await anyio.wait_all_tasks_blocked()
    slept = len(clock.slept)
    await anyio.wait_all_tasks_blocked()
    assert (store.extended, len(clock.slept)) == (["k0"], slept)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_keyed_request_leaves_no_task_behind_and_needs_none(anyio_backend: str) -> None:
    created: list[object] = []

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        created.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **options)

    app = Idempotency().asgi(Host())
    loop = asyncio.get_running_loop()
    before = asyncio.all_tasks()
    loop.set_task_factory(factory)
    try:
        first = await Caller(app, headers=KEYED)()
        replay = await Caller(app, headers=KEYED)()
    finally:
        loop.set_task_factory(None)
    assert (first.replayed, replay.replayed) == (False, True)
    assert (created, asyncio.all_tasks()) == ([], before)


async def test_turns_are_taken_in_order_and_one_that_is_cancelled_is_left_out() -> None:
    turns, order = Turns(), list[str]()

    async def take(name: str, scope: anyio.CancelScope) -> None:
        with scope:
            async with turns:
                order.append(name)
                await checkpoint()

    scopes = [anyio.CancelScope() for _ in range(4)]
    async with anyio.create_task_group() as group, turns:
        for number, scope in enumerate(scopes):
            group.start_soon(take, str(number), scope)
            await anyio.wait_all_tasks_blocked()
        scopes[1].cancel()
        await anyio.wait_all_tasks_blocked()
    assert order == ["0", "2", "3"]
    async with turns:
        pass


@pytest.mark.parametrize("on_unknown", ["refuse", "run"])
async def test_a_late_heartbeat_starts_no_second_execution_in_the_process_of_the_first(on_unknown: Any) -> None:
    """A handler that blocks the event loop for longer than the lease holds up the heartbeats of all its keys,
    and the next requests may come before them."""
    store_clock = FakeClock(now=1_800_000_000.0)
    host = Host().hold()
    app = Idempotency(storage=MemoryStore(clock=store_clock), lease=60.0, on_unknown=on_unknown).asgi(host)
    async with anyio.create_task_group() as group:
        group.start_soon(Caller(app, headers=KEYED))
        await host.started.wait()
        store_clock.advance(61.0)  # the clock of the heartbeats stands still, as the event loop did
        again = await Caller(app, headers=KEYED)()
        assert (again.status, host.runs) == (409, 1)
        assert b"idempotency_in_progress" in again.answer
        host.proceed.set()
    assert (await Caller(app, headers=KEYED)()).replayed
    assert host.runs == 1


@pytest.mark.parametrize("closes", [False, True])
@pytest.mark.parametrize("sdk", [False, True])
def test_an_execution_whose_event_loop_has_ended_does_not_run_any_more(*, closes: bool, sdk: bool) -> None:
    """A loop that is closed without cancelling its tasks never ends them: the key is unknown, and not in progress for
    ever. The retry of an SDK would wait for the response."""
    clock = FakeClock(now=1_800_000_000.0)
    host = Host().hold()
    app = Idempotency(storage=MemoryStore(clock=clock), lease=60.0, sdk_retries=sdk).asgi(host)
    caller = Caller(app, headers={"x-stainless-retry-count": "0"} if sdk else KEYED)
    loop = asyncio.new_event_loop()
    task = loop.create_task(caller())
    loop.run_until_complete(host.started.wait())
    if closes:
        loop.close()
    clock.advance(61.0)
    again = asyncio.run(Caller(app, headers={"x-stainless-retry-count": "1"} if sdk else KEYED)())
    assert (again.status, host.runs) == (409, 1)
    assert b"idempotency_unknown" in again.answer
    if not closes:
        task.cancel()
        host.proceed.set()
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()


async def test_a_timer_looks_at_no_key_behind_the_first_one_that_is_not_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = FakeClock(now=1_800_000_000.0)
    store = ManyStore(clock)
    heartbeats = Heartbeats().of_loop()
    first, *others = await claimed(store, 20, lease=60.0, clock=clock)
    heartbeats.add(first, ignore)
    clock.advance(10.0)
    for claim in others:
        heartbeats.add(claim, ignore)
    looks: list[Claim] = []

    def longest_delay(claim: Claim) -> float:
        looks.append(claim)
        return 40.0

    monkeypatch.setattr("flexmw.idempotency.heartbeats._longest_delay", longest_delay)
    clock.advance(10.0)
    with anyio.fail_after(LONGEST_WAIT):
        await store.enough.wait()
    for claim in (first, *others):
        heartbeats.remove(claim)
    assert looks[0] is first
    assert len(looks) < len(others)


async def test_leases_that_a_late_heartbeat_lets_run_out_are_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock(now=1_800_000_000.0)
    lines = LogLimit(burst=1, per_second=0.1, monotonic=clock.monotonic)
    monkeypatch.setattr("flexmw.idempotency.heartbeats._late_lines", lines)
    store = ManyStore(clock)
    store.wanted = 3
    heartbeats = Heartbeats().of_loop()
    claims = await claimed(store, 3, lease=60.0, clock=clock)
    for claim in claims:
        heartbeats.add(claim, ignore)
    clock.advance(61.0)
    with anyio.fail_after(LONGEST_WAIT):
        await store.enough.wait()
    for claim in claims:
        heartbeats.remove(claim)
    await anyio.wait_all_tasks_blocked()
    (record,) = caplog.records
    assert (record.levelname, record.name) == ("WARNING", "flexmw.idempotency")
    expected = "The leases of running keys have run out (3), because their heartbeat is 41.0 s late"
    assert record.getMessage().startswith(expected)


async def test_a_heartbeat_in_time_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock(now=1_800_000_000.0)
    store = CountingStore(clock=clock)
    (claim,) = await claimed(store, 1, lease=60.0, clock=clock)
    heartbeats = Heartbeats().of_loop()
    heartbeats.add(claim, ignore)
    clock.advance(30.0)
    with anyio.fail_after(LONGEST_WAIT):
        await store.enough.wait()
    heartbeats.remove(claim)
    await anyio.wait_all_tasks_blocked()
    assert not caplog.records
