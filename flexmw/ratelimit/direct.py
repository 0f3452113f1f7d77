"""Fast path of the limiter: identify, count and report a request in one call, without a coroutine.

It serves one rate that is counted on memory, for callers by bearer token or address. :class:`DirectLimiter` does what
:class:`~flexmw.ratelimit.callers.CallerIdentifier`, :class:`~flexmw.ratelimit.stores.memory.MemoryStore` and
:class:`~flexmw.ratelimit.headers.Reporter` do one after the other. ``tests/ratelimit/test_direct.py`` holds it equal to
them.

Between two requests a server executes so much other code that the limiter's own code has left the caches of the CPU, so
each function and each object that a request touches costs more than what it does. Functions with closures do not help:
each of their variables is an object of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Final

from flexmw.kit.asgi import Scope
from flexmw.kit.exchange import Exchange
from flexmw.kit.identity import AUTHORIZATION, CallerHasher
from flexmw.kit.merged_headers import Header, expect_headers
from flexmw.ratelimit.core import SECOND, Rate
from flexmw.ratelimit.headers import (
    REMAINING,
    REMAINING_HEADER,
    ROUNDING_SECONDS,
    PlainReport,
    reset_header,
)
from flexmw.ratelimit.new_keys import NewKeyGuard
from flexmw.ratelimit.recent_keys import MAX_KEYS, Place
from flexmw.ratelimit.stores.memory import MemoryStore

__all__ = ["DirectLimiter"]

_LIFETIME_US: Final = 10 * SECOND
"""How long the places of addresses are remembered."""


class DirectLimiter:
    """Admits the requests of one middleware.

    :param hasher: the hash of callers and the trusted proxies.
    :param guard: the keys that the app has accepted.
    :param store: counts, in this process.
    :param rate: the only rate of every request.
    :param cost: what each request costs.
    :param report: what the reports of all admitted requests have in common.
    :param now: the wall clock in Unix seconds.
    """

    __slots__ = (
        "_acquire",
        "_address",
        "_addresses",
        "_cost",
        "_facts",
        "_forget_at_us",
        "_hit",
        "_known",
        "_limit",
        "_now",
        "_places",
        "_rate",
        "_recent",
        "_release",
        "_table",
    )

    def __init__(
        self,
        hasher: CallerHasher,
        guard: NewKeyGuard,
        store: MemoryStore,
        rate: Rate,
        cost: int,
        report: PlainReport,
        now: Callable[[], float],
    ) -> None:
        self._address, self._recent = hasher.of_address, guard.recent
        self._places = guard.recent.places
        self._acquire, self._release, self._hit = store.lock.acquire, store.lock.release, store.algorithm.hit
        self._table = store.table(rate)
        self._addresses: dict[str, Place] = {}
        self._forget_at_us = 0
        self._rate, self._cost, self._now = rate, cost, now
        self._facts, self._limit = report
        names = self._limit[0], REMAINING_HEADER, reset_header(0)[0]
        self._known = len(names) if expect_headers(*names) else 0

    def admit(self, scope: Scope, exchange: Exchange, now_us: int) -> str | None:
        """Count a request, and report it on the exchange.

        :param exchange: no component has added headers or facts to it, and it has no observers.
        :param now_us: the monotonic clock in microseconds.
        :returns: the digest of the caller. ``None``: nothing was counted, because the request may be refused, or its
            key was not seen within seconds.
        """
        for name, value in scope.get("headers", ()):
            if name == AUTHORIZATION:
                place = self._places.get(value)
                if place is None or now_us >= place.until_us:
                    place = self._place(value, now_us)
                break
        else:
            digest = self._address(scope).digest
            place = self._addresses.get(digest)
            if place is None or now_us >= place.until_us:
                place = self._place_of_address(digest, now_us)
        if place is None:
            return None
        # Python 3.11 looks a function that is called as an attribute up in the class at each call, a variable not.
        acquire, release, hit = self._acquire, self._release, self._hit
        acquire()
        try:
            if now_us >= self._table.sweeps_at:
                self._table.sweep(now_us)
            states = place.states
            if states is not place.shard.young:
                place.until_us = 0
                return None
            wait_us, remaining, reset_us = hit(states, place.index, now_us, self._rate, self._cost)
            if wait_us:
                return None
        finally:
            release()
        facts = exchange.facts = self._facts.copy()
        facts[REMAINING] = remaining
        end_us, until_us, reset = place.reset
        if now_us >= until_us or now_us + reset_us != end_us:
            reset = self._reset(place, reset_us, now_us)
        exchange.headers = [self._limit, (REMAINING_HEADER, str(remaining).encode()), reset]
        exchange.known = self._known
        return place.digest

    def _reset(self, place: Place, reset_us: int, now_us: int) -> Header:
        """The header with the end of a window, remembered in the place of the caller.

        The wall clock differs from the monotonic clock by the same seconds until somebody sets it, so it is read once a
        second.
        """
        now = self._now
        header = reset_header(ceil(now() + reset_us / SECOND - ROUNDING_SECONDS))
        place.reset = now_us + reset_us, now_us + SECOND, header
        return header

    def _place(self, authorization: bytes, now_us: int) -> Place | None:
        """Where the caller with a value of ``Authorization`` is counted. ``None``: the key is not known."""
        digest = self._recent.get(authorization, now_us)
        if digest is None:
            return None
        place = self._places[authorization] = self._place_of(digest, now_us)
        place.until_us = min(place.until_us, self._recent.ends_us)
        return place

    def _place_of_address(self, digest: str, now_us: int) -> Place:
        if now_us >= self._forget_at_us or len(self._addresses) >= MAX_KEYS:
            self._addresses.clear()  # a place keeps the array of a shard in memory, even when the shard has a new one
            self._forget_at_us = now_us + _LIFETIME_US
        place = self._addresses[digest] = self._place_of(digest, now_us)
        return place

    def _place_of(self, digest: str, now_us: int) -> Place:
        self._acquire()
        try:
            states, index = self._table.locate(digest, now_us)
            shard = self._table.shard_of(digest)
            return Place(digest, shard, states, index, shard.turns_at)
        finally:
            self._release()
