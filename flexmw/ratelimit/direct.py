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

from flexmw.kit.asgi import Scope
from flexmw.kit.exchange import Exchange
from flexmw.kit.identity import AUTHORIZATION, CallerHasher
from flexmw.ratelimit.core import SECOND, Rate
from flexmw.ratelimit.headers import REMAINING, REMAINING_HEADER, ROUNDING_SECONDS, PlainReport, reset_header
from flexmw.ratelimit.new_keys import NewKeyGuard
from flexmw.ratelimit.stores.memory import MemoryStore

__all__ = ["DirectLimiter"]


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
        "_cost",
        "_facts",
        "_hit",
        "_limit",
        "_now",
        "_rate",
        "_recent",
        "_release",
        "_shards",
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
        self._acquire, self._release, self._hit = store.lock.acquire, store.lock.release, store.algorithm.hit
        self._table = store.table(rate)
        self._shards = self._table.shards
        self._rate, self._cost, self._now = rate, cost, now
        self._facts, self._limit = report

    def admit(self, scope: Scope, exchange: Exchange, now_us: int) -> str | None:
        """Count a request, and report it on the exchange.

        :param now_us: the monotonic clock in microseconds.
        :returns: the digest of the caller. ``None``: nothing was counted, because the request may be refused, its key
            was not seen within seconds, or another component has written to the exchange.
        """
        if exchange.observers or exchange.headers or exchange.facts:
            return None
        for name, value in scope.get("headers", ()):
            if name == AUTHORIZATION:
                recent = self._recent
                digest = recent.digests.get(value) if now_us < recent.ends_us else None
                if digest is None:
                    return None
                break
        else:
            digest = self._address(scope).digest
        self._acquire()
        try:
            shards, table = self._shards, self._table
            shard = shards[hash(digest) % len(shards)]
            if now_us >= shard.turns_at or now_us >= table.sweeps_at or len(shard.young) >= table.size:
                shard = table.shard(digest, now_us)
            young = shard.young
            state = young.get(digest)
            if state is None and shard.old:
                state = shard.old.get(digest)
            wait_us, state, remaining, reset_us = self._hit(state, now_us, self._rate, self._cost)
            if wait_us:
                return None
            young[digest] = state
            if shard.old:
                shard.old.pop(digest, None)
        finally:
            self._release()
        facts = exchange.facts
        facts |= self._facts
        facts[REMAINING] = remaining
        reset_at = ceil(self._now() + reset_us / SECOND - ROUNDING_SECONDS)
        exchange.headers += self._limit, (REMAINING_HEADER, b"%d" % remaining), reset_header(reset_at)
        return digest
