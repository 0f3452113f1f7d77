"""Claims on a real store with a clock of the test's own: several workers, one key, every order of events.

The promise in SECURITY.md: "No second execution of a request that flexmw says it executes once".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from flexmw.idempotency.claim import Claim, Claims, StoreFailed, TakenOver
from flexmw.idempotency.core import KeyedRequest, OnUnknown, Record, Refuse, Replay, StoredResponse
from flexmw.idempotency.sdk_calls import SdkAttempt, SdkRequest, claim_call
from flexmw.idempotency.stores import Held, Swap
from flexmw.idempotency.stores.memory import MemoryStore
from flexmw.testing import FakeClock

LEASE, TTL, WINDOW = 60.0, 100_000.0, 600.0
T = TypeVar("T")


def claims_on(store: MemoryStore, clock: FakeClock, on_unknown: OnUnknown = "refuse") -> Claims:
    return Claims(store=store, clock=clock, lease=LEASE, ttl=TTL, sdk_window=WINDOW, on_unknown=on_unknown)


class Workers(RuleBasedStateMachine):
    """Any number of workers with one key. What must hold, whatever they do:

    an answer that was stored is the only one there will ever be; nobody runs while another's lease is alive; where
    unknown keys are refused, work that may have had an effect is never begun again; a worker that was overtaken
    changes nothing any more; every key is told something final once leases are over.
    """

    working = Bundle("working")

    @initialize(on_unknown=st.sampled_from(["refuse", "run"]))
    def begin(self, on_unknown: OnUnknown) -> None:
        self.runner = asyncio.Runner()
        self.clock = FakeClock()
        self.store = MemoryStore(clock=self.clock)
        self.claims = claims_on(self.store, self.clock, on_unknown)
        self.on_unknown = on_unknown
        self.answer: bytes | None = None
        self.holder: Claim | None = None
        self.heard = 0.0
        self.uncertain = False

    def teardown(self) -> None:
        self.runner.close()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def request(self) -> Claim | Replay | Refuse:
        request = KeyedRequest(key="k", fingerprint="f", now=self.clock.now())
        return self.do(self.claims.claim("k", request, ttl=TTL, read_first=self.heard > 0))

    @property
    def alive(self) -> bool:
        return self.holder is not None and self.clock.monotonic() < self.heard + LEASE

    @rule(target=working)
    def arrive(self) -> Claim | None:
        alive, outcome = self.alive, self.request()
        if isinstance(outcome, Replay):
            assert outcome.response.body == self.answer
        elif isinstance(outcome, Refuse):
            assert outcome.reason == ("in_progress" if alive else "unknown")
            assert self.answer is None
        else:
            assert not alive
            assert self.answer is None
            assert self.on_unknown == "run" or not self.uncertain
            self.holder, self.heard, self.uncertain = outcome, self.clock.monotonic(), True
            return outcome
        return None

    @rule(worker=working)
    def beat(self, worker: Claim | None) -> None:
        if worker is not None:
            assert self.do(worker.renew()) is (worker is self.holder)
            if worker is self.holder:
                self.heard = self.clock.monotonic()

    @rule(worker=working, value=st.integers())
    def record_a_step(self, worker: Claim | None, value: int) -> None:
        if worker is not None and worker is self.holder:
            self.do(worker.record_steps({"step": value}))
            self.heard = self.clock.monotonic()
        elif worker is not None:
            with pytest.raises(TakenOver):
                self.do(worker.record_steps({"step": value}))

    @rule(worker=consumes(working), body=st.binary(max_size=3))
    def finish(self, worker: Claim | None, body: bytes) -> None:
        if worker is not None:
            assert self.do(worker.complete(StoredResponse(status=200, body=body, size=len(body)))) is (
                worker is self.holder
            )
            if worker is self.holder:
                self.holder, self.answer = None, body

    @rule(worker=consumes(working))
    def be_refused(self, worker: Claim | None) -> None:
        if worker is not None:
            assert self.do(worker.release()) is (worker is self.holder)
            if worker is self.holder:
                self.holder, self.uncertain = None, False

    @rule(worker=consumes(working))
    def be_cut_off(self, worker: Claim | None) -> None:
        if worker is not None:
            assert self.do(worker.lapse()) is (worker is self.holder)
            if worker is self.holder:
                self.holder = None

    @rule(worker=consumes(working))
    def vanish(self, worker: Claim | None) -> None:
        """SIGKILL: nobody says anything."""

    @rule(seconds=st.sampled_from([0.0, 1.0, LEASE / 3, LEASE, 2 * LEASE]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.sampled_from([-1e6, -3600.0, 3600.0, 1e6]))
    def the_wall_clock_leaps(self, seconds: float) -> None:
        self.clock.step(seconds)

    @rule()
    def another_request_uses_the_key(self) -> None:
        held = self.do(self.store.load("k"))
        if held is not None:
            other = KeyedRequest(key="k", fingerprint="other", now=self.clock.now())
            assert self.do(self.claims.claim("k", other, ttl=TTL)) == Refuse("reused")

    @invariant()
    def what_is_stored_is_what_happened(self) -> None:
        held = self.do(self.store.load("k"))
        record = None if held is None else Record.decode(held.entry)
        if self.answer is not None:
            assert record is not None
            assert record.response is not None
            assert record.response.body == self.answer
        if self.holder is not None:
            assert record is not None
            assert record.phase == "running"


Workers.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestWorkers = Workers.TestCase


class Unsure(MemoryStore):
    """A store whose connection breaks after it has done what it was asked."""

    broken = True

    async def swap(self, key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float) -> Any:
        held = await super().swap(key, expected, token, entry, lease=lease, ttl=ttl)
        if self.broken:
            raise ConnectionError("the answer was lost")
        return held


@pytest.mark.anyio
async def test_a_claim_whose_outcome_was_lost_is_given_back() -> None:
    store, clock = Unsure(), FakeClock()
    claims, request = claims_on(store, clock), KeyedRequest(key="k", fingerprint="f", now=0.0)
    with pytest.raises(StoreFailed):
        await claims.claim("k", request, ttl=TTL)
    store.broken = False
    assert isinstance(await claims.claim("k", request, ttl=TTL), Claim)


@pytest.mark.anyio
async def test_an_entry_that_is_no_record_is_refused_and_not_overwritten() -> None:
    store, clock = MemoryStore(), FakeClock()
    await store.swap("k", "", "t", b"something else", lease=0.0, ttl=TTL)
    outcome = await claims_on(store, clock).claim("k", KeyedRequest(key="k", fingerprint="f", now=0.0), ttl=TTL)
    assert outcome == Refuse("unknown")
    held = await store.load("k")
    assert held is not None
    assert held.entry == b"something else"


async def stays() -> bool:
    return False


async def leaves() -> bool:
    return True


async def attempt(
    claims: Claims, count: int, has_left: Callable[[], Awaitable[bool]] = stays
) -> tuple[SdkAttempt | None, Claim | Replay | Refuse]:
    """One attempt of one of several equal calls."""
    return await claim_call(claims, SdkRequest("{p}:f", "{p}:r:", fingerprint="f", retries=count), has_left)


async def call_of(claims: Claims, count: int, has_left: Callable[[], Awaitable[bool]] = stays) -> str | None:
    made, _ = await attempt(claims, count, has_left)
    return None if made is None else made.call


@pytest.mark.anyio
async def test_an_attempt_that_its_own_retry_has_overtaken_does_not_run() -> None:
    claims = claims_on(MemoryStore(), FakeClock())
    retry = await call_of(claims, 1, leaves)
    assert retry is not None
    assert await attempt(claims, 0, leaves) == (None, Refuse("in_progress"))
    assert await call_of(claims, 2, leaves) == retry
    other = await call_of(claims, 0)
    assert other not in (None, retry)


@pytest.mark.anyio
async def test_calls_of_an_sdk_are_told_apart_by_count_window_and_fate() -> None:
    store, clock = MemoryStore(), FakeClock()
    claims = claims_on(store, clock)
    first, second = (await attempt(claims, 0))[0], (await attempt(claims, 0))[0]
    assert first is not None
    assert second is not None
    assert first.call != second.call
    await first.mark(refused=False)
    await second.mark(refused=True)
    assert await call_of(claims, 1) == second.call
    assert await call_of(claims, 1) == first.call
    assert await call_of(claims, 1) not in (first.call, second.call)
    clock.advance(WINDOW + 1)
    assert await call_of(claims, 2) not in (first.call, second.call)


class Pairing(MemoryStore):
    """A store that writes two keys in one step, and counts its operations."""

    operations = 0

    async def swap_pair(self, first: Swap, second: Swap) -> tuple[Held | None, Held | None]:
        self.operations += 1
        held = await super().swap(*first[:4], lease=first.lease, ttl=first.ttl)
        if held is None or held.token != first.token:
            return held, None
        return held, await super().swap(*second[:4], lease=second.lease, ttl=second.ttl)

    async def swap(self, key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float) -> Held | None:
        self.operations += 1
        return await super().swap(key, expected, token, entry, lease=lease, ttl=ttl)


@pytest.mark.parametrize("kind", [MemoryStore, Pairing])
@pytest.mark.anyio
async def test_a_retry_of_an_sdk_gets_what_its_first_attempt_has_come_to(kind: type[MemoryStore]) -> None:
    store, clock = kind(clock=FakeClock()), FakeClock()
    claims = claims_on(store, clock)
    made, claim = await attempt(claims, 0)
    assert made is not None
    assert isinstance(claim, Claim)
    again, outcome = await attempt(claims, 1)
    assert again is not None
    assert (again.call, outcome) == (made.call, Refuse("in_progress"))
    await claim.complete(StoredResponse(status=200, body=b"one", size=3))
    _, outcome = await attempt(claims, 2)
    assert isinstance(outcome, Replay)
    await made.mark(refused=False)  # the list has changed since this attempt has written it
    other, claim = await attempt(claims, 0)
    assert other is not None
    assert isinstance(claim, Claim)
    await claim.release()
    await other.mark(refused=True)
    repeated, claim = await attempt(claims, 1)
    assert repeated is not None
    assert repeated.call == other.call
    assert isinstance(claim, Claim)


@pytest.mark.anyio
async def test_a_first_attempt_of_an_unknown_call_is_one_operation_and_so_is_its_mark() -> None:
    store = Pairing()
    made, claim = await attempt(claims_on(store, FakeClock()), 0)
    assert store.operations == 1
    assert made is not None
    assert isinstance(claim, Claim)
    await claim.complete(StoredResponse(status=200, body=b"one", size=3))
    await made.mark(refused=False)
    assert store.operations == 3
    await made.forget()
    assert await store.load("{p}:f") is None


@pytest.mark.anyio
async def test_a_call_that_cannot_be_looked_up_is_a_failure_of_the_store_and_marking_one_is_not() -> None:
    store = Unsure()
    claims = claims_on(store, FakeClock())
    with pytest.raises(StoreFailed):
        await attempt(claims, 0)
    keyed = KeyedRequest(key="x", fingerprint="f", now=0.0)
    unknown = SdkAttempt(claims, "{p}:r:x", keyed, "unheard of", Held("t", b"[]", 0.0), ())
    await unknown.mark(refused=True)
    await unknown.forget()


async def claimed(store: MemoryStore, clock: FakeClock, *, ttl: float = TTL) -> Claim:
    claim = await claims_on(store, clock).claim("k", KeyedRequest(key="k", fingerprint="f", now=0.0), ttl=ttl)
    assert isinstance(claim, Claim)
    return claim


@pytest.mark.anyio
@pytest.mark.parametrize("then", ["renew", "release", "complete"])
async def test_a_claim_survives_a_write_whose_reply_was_lost(then: str) -> None:
    store, clock = Unsure(), FakeClock()
    store.broken = False
    claim = await claimed(store, clock)
    store.broken = True
    with pytest.raises(ConnectionError):
        await claim.record_steps({"charge": 1})
    store.broken = False
    kept = StoredResponse(status=200, body=b"done", size=4)
    assert await {"renew": claim.renew, "release": claim.release, "complete": lambda: claim.complete(kept)}[then]()


@pytest.mark.anyio
@pytest.mark.parametrize("then", ["renew", "release", "complete"])
async def test_a_claim_that_another_attempt_has_is_left_alone(then: str) -> None:
    store, clock = MemoryStore(), FakeClock()
    claim = await claimed(store, clock)
    held = await store.load("k")
    assert held is not None
    await store.swap("k", held.token, "theirs", held.entry, lease=LEASE, ttl=TTL)
    kept = StoredResponse(status=200, body=b"done", size=4)
    assert not await {"renew": claim.renew, "release": claim.release, "complete": lambda: claim.complete(kept)}[then]()
    held = await store.load("k")
    assert held is not None
    assert held.token == "theirs"


@pytest.mark.anyio
async def test_a_key_is_not_forgotten_while_its_request_runs_however_short_it_is_kept() -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    claim = await claimed(store, clock, ttl=1.0)
    for _ in range(3):
        clock.advance(LEASE / 3)
        assert await claim.renew()
    await claim.complete(StoredResponse(status=200))
    clock.advance(1.0)
    assert await store.load("k") is None
