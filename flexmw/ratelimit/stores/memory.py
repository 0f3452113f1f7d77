"""The store inside one process: synchronous, no thread, no task and no scan, whatever the number of callers.

>>> from flexmw.ratelimit.algorithms import ALGORITHMS
>>> from flexmw.ratelimit.rates import parse_rates
>>> store = MemoryStore(ALGORITHMS["fixed-window"], SYSTEM)
>>> check = Check("digest", parse_rates("2/minute"), (1,))
>>> [store.decide(check).wait_us > 0 for _ in range(3)]
[False, False, True]
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Any, TypeAlias

from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.counters import MAX_WORD, CounterTable
from flexmw.kit.expiring import ExpiringTable
from flexmw.kit.forked import fork_safe
from flexmw.ratelimit.algorithms import Algorithm, State, States
from flexmw.ratelimit.algorithms.windows import admit, result_of
from flexmw.ratelimit.core import SECOND, Check, LimitResult, Rate, Slot, with_slot

__all__ = ["MemoryStore", "Table"]

Table: TypeAlias = CounterTable | ExpiringTable[State]


class MemoryStore:
    """Counts by the monotonic clock. Thread-safe.

    Earlier digests of a caller mean nothing here: this process has counted under its current pepper from the start.
    """

    def __init__(self, algorithm: Algorithm, clock: Clock = SYSTEM) -> None:
        self.algorithm = algorithm
        self._monotonic = clock.monotonic
        self._now = clock.now
        self._tables: dict[str, Table] = {}
        self._calendar: dict[str, ExpiringTable[State]] = {}
        """The tables of windows of the calendar, apart, so that the measured path does not look at them."""
        self._wide: dict[str, Table] = {}
        """The tables of rates whose states do not fit into words, apart for the same reason."""
        self._last_rates: tuple[Rate, ...] = ()
        """The rate of the last :meth:`hit` under one rate, whose table is ``_last_table``: nearly all have the same."""
        self._last_table: Table = ExpiringTable(1, shards=1)
        self._holders: dict[tuple[str, int], set[str]] = {}
        self._algorithm_hit = algorithm.hit
        self.lock = fork_safe(Lock())
        self._acquire, self._release = self.lock.acquire, self.lock.release

    def hit(self, digest: str, rates: tuple[Rate, ...], cost: int, now_us: int) -> LimitResult:
        """The same as :meth:`decide` for the most frequent request: no slot, and one cost in every rate.

        It is measured, so it builds no :class:`Check`, calls the lock's methods instead of ``with`` (half the time),
        and makes the result without the constructor of the named tuple.

        :param now_us: the monotonic clock in microseconds.
        """
        self._acquire()
        try:
            if rates is not self._last_rates:
                if len(rates) != 1:
                    return self._hit_all(digest, rates, cost, now_us)
                if not self.counts_in_place(rates[0]):
                    return self._decide(digest, rates, (cost,), now_us, True)
                self._last_rates, self._last_table = rates, self.table(rates[0])
            rate = rates[0]
            states, index = self._last_table.locate(digest, now_us)
            wait_us, remaining, reset_us = self._algorithm_hit(states, index, now_us, rate, cost)
        finally:
            self._release()
        return tuple.__new__(LimitResult, (rate, remaining, wait_us, reset_us, ()))

    def _hit_all(self, digest: str, rates: tuple[Rate, ...], cost: int, now_us: int) -> LimitResult:
        """:meth:`hit` for several rates, in one pass over them: nearly every request is admitted by all.

        Some requests are left to :meth:`_decide`, once what was taken is given back: a refused request, one that begins
        a window, and those under rates of several units or with periods.
        """
        costs = (cost,) * len(rates)
        if not self.algorithm.in_words or not cost:
            return self._decide(digest, rates, costs, now_us, True)
        hit, tables, unit = self._algorithm_hit, self._tables, rates[0].unit
        taken: list[tuple[States, Any]] = []
        tightest, least, first_left, first_reset_us = rates[0], 2.0, 0, 0
        for rate in rates:
            table = tables.get(rate.key_suffix)
            if table is None and self.counts_in_place(rate):
                table = self.table(rate)
            # A table belongs to a window, and another limit of that window may not fit into words.
            if table is None or rate.unit != unit or rate.limit > MAX_WORD:
                break
            entry: tuple[States, Any] = table.locate(digest, now_us)
            states, index = entry
            if now_us >= states[index]:  # what begins a window cannot be given back
                break
            wait_us, remaining, reset_us = hit(states, index, now_us, rate, cost)
            if wait_us:
                break
            taken.append(entry)
            share = remaining / rate.limit
            if share < least or (share == least and reset_us > first_reset_us):  # as in `combine`
                tightest, least, first_left, first_reset_us = rate, share, remaining, reset_us
        else:
            return tuple.__new__(LimitResult, (tightest, first_left, 0, first_reset_us, ()))
        for states, index in taken:
            states[index + 1] -= cost
        return self._decide(digest, rates, costs, now_us, True)

    def decide(self, check: Check) -> LimitResult:
        """Check every rate and the slot, then take all of them or nothing."""
        digest, rates, costs, slot, _, take = check
        now_us = int(self._monotonic() * SECOND)
        if slot is None and take and len(rates) == 1:
            return self.hit(digest, rates, costs[0], now_us)
        with self.lock:
            if slot is None:
                return self._decide(digest, rates, costs, now_us, take)
            holders = self._holders.get((digest, slot.limit), set())
            full = len(holders) >= slot.limit
            result = self._decide(digest, rates, costs, now_us, take and not full) if rates else None
            if take and not full and (result is None or not result.wait_us):
                holders.add(slot.holder)
                self._holders[digest, slot.limit] = holders
            return with_slot(slot, len(holders), full, result)

    def refund(self, check: Check, age_us: int = 0) -> None:
        """Give the costs of a check back; a negative cost is charged without a check.

        :param age_us: microseconds since the costs were taken.
        """
        now_us = int(self._monotonic() * SECOND)
        with self.lock:
            for rate, cost in zip(check.rates, check.costs, strict=True):
                table, window, age = self.table(rate), rate, age_us
                if rate.ends_at_us:  # the counter is of one period, whatever the age
                    window, age = self._window(rate), 0
                state = table.get(check.digest, now_us)
                table.put(check.digest, self.algorithm.refund(state, now_us, window, cost, age), now_us)

    def release(self, digest: str, slot: Slot) -> None:
        """Give a slot back. Nothing happens if it is not taken."""
        with self.lock:
            holders = self._holders.get((digest, slot.limit))
            if holders is not None:
                holders.discard(slot.holder)
                if not holders:
                    del self._holders[digest, slot.limit]

    def _decide(
        self, digest: str, rates: tuple[Rate, ...], costs: tuple[int, ...], now_us: int, take: bool
    ) -> LimitResult:
        tables = [self.table(rate) for rate in rates]
        windows = rates if not self._calendar else tuple(self._window(rate) for rate in rates)
        states = [table.get(digest, now_us) for table in tables]
        admitted, states_after = admit(self.algorithm, windows, states, now_us, costs, take=take)
        if admitted and take:
            for table, state in zip(tables, states_after, strict=True):
                table.put(digest, state, now_us)
        result = result_of(self.algorithm, windows, states_after, now_us, costs, admitted)
        return result if windows is rates else _with_rates(result, dict(zip(windows, rates, strict=True)))

    def _window(self, rate: Rate) -> Rate:
        """A rate whose window begins now and ends with its period. The state keeps the end that it began with."""
        if not rate.ends_at_us:
            return rate
        return rate._replace(window_us=max(1, rate.ends_at_us - int(self._now() * SECOND)))

    def table(self, rate: Rate) -> Table:
        """The states of all callers under a rate. To be used with the lock of the store."""
        if rate.ends_at_us:
            return self._period_table(rate)
        lifetime_us = rate.window_us * self.algorithm.lifetime_windows
        in_place = self.counts_in_place(rate)
        tables: dict[str, Table] = self._tables if in_place else self._wide
        table = tables.get(rate.key_suffix)
        if table is None:
            make: type[Table] = CounterTable if in_place and self.algorithm.in_words else ExpiringTable
            table = tables[rate.key_suffix] = make(lifetime_us)
        return table

    def counts_in_place(self, rate: Rate) -> bool:
        """Whether :attr:`Algorithm.hit` counts under a rate. It does not in windows of the calendar, and not where a
        count or the end of a window may be too large for a word."""
        if rate.ends_at_us:
            return False
        return not self.algorithm.in_words or (rate.limit <= MAX_WORD and rate.window_us <= MAX_WORD // 4)

    def _period_table(self, rate: Rate) -> ExpiringTable[State]:
        """The table of one period. Those of the periods before the last one are dropped."""
        table = self._calendar.get(rate.key_suffix)
        if table is None:
            name = rate.key_suffix.partition("@")[0]
            earlier = [key for key in self._calendar if key.partition("@")[0] == name]
            for key in sorted(earlier)[:-1]:
                del self._calendar[key]
            table = self._calendar[rate.key_suffix] = ExpiringTable(rate.window_us)
        return table


def _with_rates(result: LimitResult, rates: Mapping[Rate, Rate]) -> LimitResult:
    """A result whose rates have the windows that they are reported with."""
    others = tuple(_with_rates(other, rates) for other in result.others)
    return result._replace(rate=rates[result.rate], others=others)
