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
from math import ceil, floor
from typing import Any, Final

from flexmw.kit.asgi import Scope, Send
from flexmw.kit.clock import Clock
from flexmw.kit.exchange import KEY, Exchange
from flexmw.kit.identity import AUTHORIZATION, CallerHasher
from flexmw.kit.merged_headers import Header, expect_headers
from flexmw.ratelimit.algorithms import States
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
    :param clock: the clock of the store.
    :param judge_key: takes a status as a verdict on the key of a caller.
    """

    __slots__ = (
        "_acquire",
        "_address",
        "_addresses",
        "_clock",
        "_cost",
        "_facts",
        "_forget_at_us",
        "_hit",
        "_in_words",
        "_judge_key",
        "_known",
        "_limit",
        "_limit_header",
        "_monotonic",
        "_places",
        "_rate",
        "_recent",
        "_release",
        "_table",
        "_window_us",
    )

    def __init__(
        self,
        hasher: CallerHasher,
        guard: NewKeyGuard,
        store: MemoryStore,
        rate: Rate,
        cost: int,
        report: PlainReport,
        clock: Clock,
        judge_key: Callable[[str, int], None],
    ) -> None:
        self._address, self._recent, self._judge_key = hasher.of_address, guard.recent, judge_key
        self._places = guard.recent.places
        self._acquire, self._release, self._hit = store.lock.acquire, store.lock.release, store.algorithm.hit
        self._table, self._in_words = store.table(rate), store.algorithm.in_words
        self._addresses: dict[str, Place] = {}
        self._forget_at_us = 0
        self._rate, self._cost, self._limit, self._window_us = rate, cost, rate.limit, rate.window_us
        self._clock, self._monotonic = clock, clock.monotonic
        self._facts, self._limit_header = report
        names = self._limit_header[0], REMAINING_HEADER, reset_header(0)[0]
        self._known = len(names) if expect_headers(*names) else 0

    def admit(self, scope: Scope, exchange: Exchange, send: Send | None) -> Place | None:
        """Count a request, and report it on the exchange.

        :param exchange: no component has added headers or facts to it, and it has no observers. Or a new object
            without fields, of a request without an exchange: see ``send``.
        :param send: the ``send`` that the new exchange forwards to. It is begun, with its headers claimed, and put into
            the scope. ``None`` for an exchange of the scope.
        :returns: the place of the caller. ``None``: nothing was counted, because the request may be refused, or its key
            was not seen within seconds.
        """
        # Python 3.11 looks a function that is called as an attribute up in the class at each call, a variable not.
        monotonic, acquire, release = self._monotonic, self._acquire, self._release
        now = monotonic()
        headers = scope.get("headers")
        if type(headers) is not list:  # they may be an iterator: `new_exchange` makes a list of them
            return None
        for name, value in headers:
            if name == AUTHORIZATION:
                if type(name) is not bytes:  # it makes bytes of all
                    return None
                place = self._places.get(value)
                if place is None or now >= place.fresh_until:
                    place = self._place(value, place, floor(now * SECOND))
                break
        else:
            place = self._place_of_address(scope, now)
        if place is None:
            return None
        acquire()
        try:
            states = place.states
            if states is not place.shard.young:
                place.fresh_until, place.ends_us = 0.0, 0
                return None
            window_ends_us = place.window_ends_us
            if window_ends_us:
                # What `Algorithm.hit` does with words while a window is open, without a call.
                index = place.index
                count = states[index] + self._cost
                remaining = self._limit - count
                if previous := states[index + 1]:
                    remaining -= previous * (window_ends_us - floor(now * SECOND)) // self._window_us
                if remaining < 0:
                    return None
                states[index] = count
                reset = place.reset
            else:
                hit = self._hit
                wait_us, remaining, reset_us = hit(states, place.index, floor(now * SECOND), self._rate, self._cost)
                if wait_us:
                    return None
                reset = self._reset(reset_us)
        finally:
            release()
        facts = self._facts.copy()
        facts[REMAINING] = remaining
        headers = [self._limit_header, (REMAINING_HEADER, str(remaining).encode()), reset]
        if send is not None:
            scope[KEY] = exchange
            exchange.set_up(headers, facts, self._known, send, place.judged_key)
        else:
            exchange.headers = headers
            exchange.facts = facts
            exchange.known = self._known
        return place

    def _reset(self, reset_us: int) -> Header:
        """The header with the end of a window.

        :param reset_us: microseconds until then.
        """
        return reset_header(ceil(self._clock.now() + reset_us / SECOND - ROUNDING_SECONDS))

    def _place(self, authorization: bytes, place: Place | None, now_us: int) -> Place | None:
        """Where the caller with a value of ``Authorization`` is counted. ``None``: the key is not known, or its window
        is not open.

        :param place: where the caller was counted so far.
        """
        if place is not None and self._is_renewed(place, now_us):
            return place
        digest = self._recent.get(authorization, now_us)
        if digest is None:
            return None
        place = self._place_of(digest, now_us, self._recent.ends_us)
        if place is not None:
            self._places[authorization] = place
        return place

    def _place_of_address(self, scope: Scope, now: float) -> Place | None:
        """Where the caller without a key is counted. ``None``: the window of the caller is not open."""
        headers = scope["headers"]
        if headers and type(headers[0][0]) is not bytes:  # as in `new_exchange`
            return None
        digest = self._address(scope).digest
        place = self._addresses.get(digest)
        if place is not None and now < place.fresh_until:
            return place
        now_us = floor(now * SECOND)
        if place is not None and self._is_renewed(place, now_us):
            return place
        if now_us >= self._forget_at_us or len(self._addresses) >= MAX_KEYS:
            self._addresses.clear()  # a place keeps the array of a shard in memory, even when the shard has a new one
            self._forget_at_us = now_us + _LIFETIME_US
        place = self._place_of(digest, now_us, self._forget_at_us)
        if place is not None:
            self._addresses[digest] = place
        return place

    def _place_of(self, digest: str, now_us: int, ends_us: int) -> Place | None:
        """A new place of a caller. ``None``: the window of the caller is not open.

        :param ends_us: when the key or the address is forgotten.
        """
        self._acquire()
        try:
            entry: tuple[States, Any] = self._table.locate(digest, now_us)
            states, index = entry
            shard = self._table.shard_of(digest)
            ends_us, window_ends_us = min(ends_us, shard.turns_at), 0
            if self._in_words:
                window_ends_us = states[index]
                ends_us, index = min(ends_us, window_ends_us), index + 1
            place = Place((self._judge_key, digest), shard, states, index, window_ends_us, ends_us)
        finally:
            self._release()
        return place if self._is_renewed(place, now_us) else None

    def _is_renewed(self, place: Place, now_us: int) -> bool:
        """Renew a place for a second, if it is of use for longer.

        The wall clock differs from the monotonic clock by the same seconds until somebody sets it, so it is read once a
        second. The table is swept as often.
        """
        if now_us >= place.ends_us:
            return False
        if now_us >= self._table.sweeps_at:
            self._acquire()
            try:
                self._table.sweep(now_us)
            finally:
                self._release()
        if place.window_ends_us:
            place.reset = self._reset(place.window_ends_us - now_us)
        place.fresh_until = (min(place.ends_us, now_us + SECOND) - 1) / SECOND  # not rounded up
        return True
