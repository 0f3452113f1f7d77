"""Heartbeats: renew the leases of all keys whose executions run in this process.

One timer for each event loop renews the keys of all executions in the loop. A key is added when its execution begins,
and removed when it ends: both cost one operation on a dict, and most executions end before their first heartbeat.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import Context
from functools import partial
from itertools import takewhile
from threading import Lock
from typing import Any, Final
from weakref import WeakKeyDictionary

import anyio

from flexmw.idempotency.claim import Claim
from flexmw.idempotency.stores import ManyLeases
from flexmw.idempotency.stores.guarded import guarded
from flexmw.kit.background import start_in_background
from flexmw.kit.clock import SYSTEM
from flexmw.kit.forked import fork_safe
from flexmw.kit.log_limit import LogLimit

__all__ = ["BEATS", "Heartbeats", "LoopHeartbeats"]

BEATS: Final = 3.0
"""Heartbeats in one lease. Two of them may be lost."""

_LONGEST_RETRY_PAUSE: Final = 1.0
"""Seconds after which a heartbeat that the store did not take is tried again."""

_LOGGER: Final = logging.getLogger("flexmw.idempotency")
_late_lines = LogLimit(burst=1, per_second=0.1, monotonic=SYSTEM.monotonic)

_AT_ONCE: Final = 16
"""Keys of a store without ``extend_many`` that are renewed at the same time."""


class Heartbeats:
    """The running keys of one app, by the event loop that their executions run in."""

    __slots__ = ("_last", "_lock", "_loops")

    def __init__(self) -> None:
        self._loops: WeakKeyDictionary[Any, LoopHeartbeats] = WeakKeyDictionary()
        self._lock = fork_safe(Lock())
        self._last: tuple[Any, LoopHeartbeats | None] = (None, None)
        """The event loop of the last request, and its heartbeats. Most apps have one event loop."""

    def of_loop(self) -> LoopHeartbeats:
        """The heartbeats of the running event loop."""
        try:
            loop: Any = asyncio.get_running_loop()
        except RuntimeError:
            import trio

            loop = trio.lowlevel.current_trio_token()
        last, heartbeats = self._last
        if heartbeats is None or last is not loop:
            with self._lock:
                heartbeats = self._loops.get(loop)
                if heartbeats is None:
                    heartbeats = self._loops[loop] = LoopHeartbeats()
                self._last = (loop, heartbeats)
        return heartbeats


class LoopHeartbeats:
    """The running keys of one event loop, and their timer."""

    __slots__ = ("_due", "_is_armed", "_retries", "_sleep")

    def __init__(self) -> None:
        # Each in the order of the times at which the keys are due: all keys of an app have the same lease.
        self._due: dict[Claim, Callable[[], object]] = {}
        self._retries: dict[Claim, Callable[[], object]] = {}
        self._is_armed = False
        self._sleep: anyio.CancelScope | None = None

    def add(self, claim: Claim, stop: Callable[[], object]) -> None:
        """Keep the lease of a key.

        :param claim: the claim on the key. Its lease has just begun.
        :param stop: called when an operator has asked for the end of the execution.
        """
        claims = claim.claims
        claim.due_at = claims.clock.monotonic() + claims.lease / BEATS
        self._due[claim] = stop
        if not self._is_armed:
            self._arm(claim)

    def remove(self, claim: Claim) -> None:
        """The execution is over."""
        if self._due.pop(claim, None) is None:
            self._retries.pop(claim, None)
        if self._sleep is not None and not self._due and not self._retries:
            self._sleep.cancel()

    def _arm(self, claim: Claim) -> None:
        """Begin to watch the times, as long as there are keys.

        The timer runs in a context of its own: that of the request that happens to begin it has spans and deadlines.
        """
        self._is_armed = True
        clock = claim.claims.clock
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop is not None and clock is SYSTEM:
            loop.call_later(claim.claims.lease / BEATS, self._tick, loop, context=Context())
        else:
            start_in_background(partial(self._watch, clock))

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        """The timer of asyncio. A sleeping task in its place would be left behind when the last key is gone."""
        seconds = self._seconds_left(SYSTEM.monotonic())
        if seconds is None:
            self._is_armed = False
        elif seconds > 0:
            loop.call_later(seconds, self._tick, loop, context=Context())
        else:
            start_in_background(partial(self._renew_and_go_on, loop))

    async def _renew_and_go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            await self._renew_due(SYSTEM.monotonic())
        finally:
            self._tick(loop)

    async def _watch(self, clock: Any) -> None:
        """The timer of trio, and of the clocks of tests: a task that sleeps until a key is due, or there is none."""
        try:
            while (seconds := self._seconds_left(clock.monotonic())) is not None:
                with anyio.CancelScope() as self._sleep:
                    await clock.asleep(seconds)
                self._sleep = None
                await self._renew_due(clock.monotonic())
        finally:
            self._is_armed = False

    def _seconds_left(self, now: float) -> float | None:
        """Seconds until a key is due; ``None`` where there is no key."""
        firsts = [next(iter(keys)).due_at for keys in (self._due, self._retries) if keys]
        return max(0.0, min(firsts) - now) if firsts else None

    async def _renew_due(self, now: float) -> None:
        due: dict[Claim, Callable[[], object]] = {}
        # Not each key: a thousand keys that become due one by one would cost a million comparisons in each lease.
        lapsed = list(takewhile(lambda claim: now - claim.due_at > _longest_delay(claim), self._due))
        if lapsed:
            _warn_of_delay(now - lapsed[0].due_at, len(lapsed), lapsed[0])
        for keys in (self._due, self._retries):
            for claim, stop in keys.items():
                if claim.due_at > now:
                    break
                due[claim] = stop
        for claim, stop in due.items():
            # Before the store is asked: the execution may end meanwhile.
            self._postpone(claim, stop, renewed=False)
        for claim in await _renewed_together(due):
            self._done(claim, due.pop(claim))
        claims = iter(due.items())

        async def renew_others() -> None:
            for claim, stop in claims:
                await self._renew(claim, stop)

        if len(due) == 1:
            await renew_others()
        elif due:
            async with anyio.create_task_group() as group:
                for _ in range(min(_AT_ONCE, len(due))):
                    group.start_soon(renew_others)

    async def _renew(self, claim: Claim, stop: Callable[[], object]) -> None:
        if claim not in self._retries:  # the execution has ended meanwhile
            return
        with suppress(Exception):  # the guard around the store has logged it, and the key is due again soon
            if not await claim.renew():
                self.remove(claim)  # another attempt has taken the key over
                return
            self._done(claim, stop)
            if claim.is_stopping:
                stop()

    def _done(self, claim: Claim, stop: Callable[[], object]) -> None:
        if claim in self._retries:
            self._postpone(claim, stop, renewed=True)

    def _postpone(self, claim: Claim, stop: Callable[[], object], *, renewed: bool) -> None:
        self.remove(claim)
        pause = claim.claims.lease / BEATS
        keys = self._due if renewed else self._retries
        if not renewed:
            pause = min(pause, _LONGEST_RETRY_PAUSE)
        claim.due_at = claim.claims.clock.monotonic() + pause
        keys[claim] = stop


def _longest_delay(claim: Claim) -> float:
    """Seconds after which a heartbeat that has not come has let the lease run out."""
    lease = claim.claims.lease
    return lease - lease / BEATS


def _warn_of_delay(seconds: float, count: int, claim: Claim) -> None:
    """Log that leases have run out although their executions go on.

    :param seconds: how late the heartbeat is.
    :param count: the number of the keys.
    :param claim: one of the keys.
    """
    if _late_lines.admit() is not None:
        _LOGGER.warning(
            "The leases of running keys have run out (%d), because their heartbeat is %.1f s late: the event loop was "
            "blocked, or the process stood still. Meanwhile, a repetition of such a request gets 409 "
            "idempotency_unknown. Run blocking work in a thread, or set a lease of more than %g s.",
            count,
            seconds,
            claim.claims.lease,
        )


async def _renewed_together(due: Iterable[Claim]) -> list[Claim]:
    """Renew many keys in one call, where the store offers that. Returns the keys that were renewed."""
    claims = list(due)
    if len(claims) < 2:
        return []
    store = claims[0].claims.store
    if not isinstance(store, ManyLeases):
        return []
    with suppress(Exception):  # the guard around the store has logged it
        with guarded(store):
            results = await store.extend_many([claim.extension() for claim in claims])
        return [claim for claim, is_extended in zip(claims, results, strict=True) if is_extended]
    return []
