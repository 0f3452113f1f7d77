"""The limiter's store inside one process: no thread, no task, no scan, whatever the number of callers.

>>> from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.ratelimit.rates import parse_rates
>>> store = Memory(ALGORITHMS["fixed-window"], SYSTEM)
>>> [store.decide_now("caller", parse_rates("2/minute"), 1).wait_us > 0 for _ in range(3)]
[False, False, True]

States lie in many small tables of two generations each. A state that is used moves to the young generation; one that
was not used for a whole generation means nothing any more and goes with the old one. So a decision never costs more
than one small table, neither when a table grows nor when its callers expire (``limits``' own memory storage scans every
key on a timer or on every hit).
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any, Final

from flexmw.kit.clock import SYSTEM, Clock
from flexmw.ratelimit.algorithms.base import Algorithm
from flexmw.ratelimit.algorithms.windows import admit, result_of
from flexmw.ratelimit.core import SECOND, Cost, LimitResult, Rate, Slot, costs_of, with_slot

__all__ = ["MAX_KEYS", "Memory", "Shard", "Table"]

_SHARDS: Final = 512
MAX_KEYS: Final = 4_194_304
"""States that one window holds at most. Above it the ones that were not used for longest are forgotten."""


class Shard:
    """One small table in its two generations."""

    __slots__ = ("old", "turns_at", "young")

    def __init__(self) -> None:
        self.young: dict[str, Any] = {}
        self.old: dict[str, Any] = {}
        self.turns_at = 0


class Table:
    """Values by key that are forgotten when they were not written for ``life`` to three times ``life`` microseconds."""

    __slots__ = ("_life", "_next", "_shards", "_size", "_sweeps_at")

    def __init__(self, life: int, *, most: int = MAX_KEYS, shards: int = _SHARDS) -> None:
        self._life = life
        self._shards = tuple(Shard() for _ in range(shards))
        self._size = max(1, most // shards // 2)
        self._next = self._sweeps_at = 0

    def shard(self, key: str, now: int) -> Shard:
        """Where the key lies or would lie. It may be written there at once, in ``young``, and not later."""
        if now >= self._sweeps_at:
            self._sweep(now)
        shards = self._shards
        shard = shards[hash(key) % len(shards)]
        if now >= shard.turns_at or len(shard.young) >= self._size:
            self._turn(shard, now)
        return shard

    def get(self, key: str, now: int) -> Any:
        shard = self.shard(key, now)
        found = shard.young.get(key)
        return shard.old.get(key) if found is None else found

    def keep(self, key: str, now: int) -> bool:
        """Whether the key is there; if so, its life begins anew."""
        shards = self._shards
        shard = shards[hash(key) % len(shards)]
        if now < shard.turns_at and key in shard.young:
            return True
        value = self.shard(key, now).old.pop(key, None)
        if value is None:
            return False
        shard.young[key] = value
        return True

    def put(self, key: str, value: Any, now: int) -> None:
        shard = self.shard(key, now)
        shard.young[key] = value
        if shard.old:
            shard.old.pop(key, None)

    def drop(self, key: str) -> None:
        """Forget a key now."""
        shard = self._shards[hash(key) % len(self._shards)]
        shard.young.pop(key, None)
        shard.old.pop(key, None)

    def _turn(self, shard: Shard, now: int) -> None:
        shard.old = shard.young if now < shard.turns_at + self._life else {}
        shard.young = {}
        shard.turns_at = now + self._life

    def _sweep(self, now: int) -> None:
        """Look at one more table, so that those that nobody uses are emptied too: at all of them in a life's time."""
        self._sweeps_at = now + self._life // len(self._shards)
        self._next = (self._next + 1) % len(self._shards)
        shard = self._shards[self._next]
        if now >= shard.turns_at and (shard.young or shard.old):
            self._turn(shard, now)

    def held(self) -> int:
        """How many values there are, the forgotten ones that still lie about included."""
        return sum(len(shard.young) + len(shard.old) for shard in self._shards)


class Memory:
    """Decides at once, by the monotonic clock. Safe to use from several threads."""

    def __init__(self, strategy: Algorithm, clock: Clock = SYSTEM) -> None:
        self._strategy = strategy
        self._monotonic = clock.monotonic
        self._tables: dict[str, Table] = {}
        self._slots: dict[tuple[str, int], set[str]] = {}
        self._hit = strategy.hit
        self._lock = Lock()
        self._acquire, self._release = self._lock.acquire, self._lock.release

    async def decide(
        self,
        digest: str,
        rates: Sequence[Rate],
        cost: Cost,
        *,
        take: bool = True,
        slot: Slot | None = None,
        earlier: Sequence[str] = (),
    ) -> LimitResult:
        return self.decide_now(digest, rates, cost, take=take, slot=slot)

    async def give(
        self, digest: str, rates: Sequence[Rate], cost: Cost, earlier: Sequence[str] = (), *, age: int = 0
    ) -> None:
        self.give_now(digest, rates, cost, age)

    async def renew(self, digest: str, slot: Slot) -> None:
        """A holder in this process is there as long as the process is: its lease does not end."""

    async def release(self, digest: str, slot: Slot) -> None:
        self.release_now(digest, slot)

    async def close(self) -> None:
        """Nothing is open."""

    def decide_now(
        self,
        digest: str,
        rates: Sequence[Rate],
        cost: Cost,
        now: int | None = None,
        *,
        take: bool = True,
        slot: Slot | None = None,
    ) -> LimitResult:
        """Check all windows and take ``cost`` from all or none. ``now`` saves a look at the clock.

        Peppers of before mean nothing here: what this process counts began with the ones that it has.
        """
        if now is None:
            now = int(self._monotonic() * SECOND)
        # As `with` would, for half its price: this is done for every request.
        self._acquire()
        try:
            if slot is not None:
                return self._seated(digest, rates, cost, now, take, slot)
            if len(rates) != 1 or not take or not isinstance(cost, int):
                return self._decided(digest, rates, cost, now, take)
            rate = rates[0]
            table = self._tables.get(rate.key_suffix) or self._table(rate)
            shard = table.shard(digest, now)
            young, old = shard.young, shard.old
            state = young.get(digest)
            if state is None and old:
                state = old.pop(digest, None)
            wait, state, remaining, reset = self._hit(state, now, rate, cost)
            if state is not None:
                young[digest] = state
        finally:
            self._release()
        return tuple.__new__(LimitResult, (rate, remaining, wait, reset, ()))

    def give_now(self, digest: str, rates: Sequence[Rate], cost: Cost, age: int = 0) -> None:
        """Give ``cost`` back, ``age`` microseconds after it was taken; a negative one is charged without asking."""
        now = int(self._monotonic() * SECOND)
        with self._lock:
            for rate, each in zip(rates, costs_of(rates, cost), strict=True):
                table = self._table(rate)
                table.put(digest, self._strategy.refund(table.get(digest, now), now, rate, each, age), now)

    def release_now(self, digest: str, slot: Slot) -> None:
        """Give a slot back; one that is not held is none."""
        with self._lock:
            holders = self._slots.get((digest, slot.limit))
            if holders is not None:
                holders.discard(slot.holder)
                if not holders:
                    del self._slots[digest, slot.limit]

    def _decided(self, digest: str, rates: Sequence[Rate], cost: Cost, now: int, take: bool) -> LimitResult:
        tables = [self._table(rate) for rate in rates]
        before = [table.get(digest, now) for table in tables]
        admitted, states = admit(self._strategy, rates, before, now, cost, take=take)
        if admitted and take:
            for table, state in zip(tables, states, strict=True):
                table.put(digest, state, now)
        return result_of(self._strategy, rates, states, now, cost, admitted)

    def _seated(self, digest: str, rates: Sequence[Rate], cost: Cost, now: int, take: bool, slot: Slot) -> LimitResult:
        holders = self._slots.get((digest, slot.limit), set())
        full = len(holders) >= slot.limit
        found = self._decided(digest, rates, cost, now, take and not full) if rates else None
        if take and not full and (found is None or not found.wait_us):
            holders.add(slot.holder)
            self._slots[digest, slot.limit] = holders
        return with_slot(slot, len(holders), full, found)

    def _table(self, rate: Rate) -> Table:
        table = self._tables.get(rate.key_suffix)
        if table is None:
            table = self._tables[rate.key_suffix] = Table(rate.window_us * self._strategy.lifetime_windows)
        return table
