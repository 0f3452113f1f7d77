"""The limiter's store in anything that can count: memcached, mongodb and every other async storage of ``limits``.

One ``incr`` for each window, of counters that begin and end with the clock. What such a store cannot do is said at
start: algorithms other than the fixed window, windows that it does not hold, and giving back what was reserved. A
refused request counts in the windows that were asked up to the refusal.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final
from urllib.parse import quote

from limits.storage import storage_from_string

from flexmw.errors import ConfigError
from flexmw.kit.clock import Clock
from flexmw.kit.store_url import StorageURL
from flexmw.ratelimit.algorithms.base import Algorithm
from flexmw.ratelimit.algorithms.windows import result_of
from flexmw.ratelimit.core import SECOND, Cost, LimitResult, Rate, Slot

__all__ = ["MEMCACHED_SECONDS", "Counted", "check_counted"]

MEMCACHED_SECONDS: Final = 30 * 86_400
"""A longer time to live is taken for a Unix time by memcached, and the counter is gone at once."""

_STRATEGY: Final = "fixed-window"
_CANNOT: Final = {
    "cost": ("<function>", "a whole number: {store} cannot give a reserve back"),
    "tokens": ("<rates>", "none, or memory:// or redis://: {store} cannot give a reserve back"),
    "concurrency": ("<slots>", "none, or memory:// or redis://: {store} has no leases"),
    "pepper": ("<several>", "one pepper, or redis://: {store} cannot move what was counted under another"),
}


def check_counted(url: StorageURL, strategy: str, rates: Sequence[Rate], needs: Collection[str]) -> None:
    """Refuse what cannot be counted in this store.

    :param needs: options that ask for more than counting: a ``cost`` to settle, ``tokens``, ``concurrency``.
    :raises ConfigError: naming the option at fault.
    """
    store = url.scheme.family
    if strategy != _STRATEGY:
        raise ConfigError("RateLimit(strategy=...)", strategy, f"'{_STRATEGY}': {store} can count, and no more")
    for name in needs:
        if name in _CANNOT:
            raise ConfigError(f"RateLimit({name}=...)", *(words.format(store=store) for words in _CANNOT[name]))
    for rate in rates:
        if store == "memcached" and rate.seconds > MEMCACHED_SECONDS:
            raise ConfigError("RateLimit(*rates)", rate.name, "windows of 30 days at most: memcached holds none longer")


class Counted:
    """Counts by this machine's clock: processes on machines whose clocks differ disagree about when a window ends."""

    def __init__(self, strategy: Algorithm, url: StorageURL, clock: Clock) -> None:
        self._strategy = strategy
        self._now = clock.now
        scheme, _, rest = url.url.removeprefix("async+").partition("://")
        options: dict[str, Any] = {"implementation": "redispy"} if scheme.startswith("redis") else {}
        self._storage: Any = storage_from_string(f"async+{scheme}://{rest}", **options)

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
        assert isinstance(cost, int), "checked at start"  # noqa: S101
        now = int(self._now() * SECOND)
        states: list[tuple[int, int]] = []
        for rate in rates:
            turn = now // rate.window_us
            key = f"{_key(rate, digest)}/{turn}"
            if take and cost:
                count = await self._storage.incr(key, rate.seconds, amount=cost)
            else:
                count = await self._storage.get(key) + cost
            states.append(((turn + 1) * rate.window_us, count))
            if count > rate.limit:
                asked = [(end, count - cost) for end, count in states]
                return result_of(self._strategy, rates[: len(asked)], asked, now, cost, admitted=False)
        if not take:
            states = [(end, count - cost) for end, count in states]
        return result_of(self._strategy, rates, states, now, cost, admitted=True)

    async def give(
        self, digest: str, rates: Sequence[Rate], cost: Cost, earlier: Sequence[str] = (), *, age: int = 0
    ) -> None:
        raise ConfigError("RateLimit(cost=...)", cost, "a store that can give back")

    async def renew(self, digest: str, slot: Slot) -> None:
        raise ConfigError("RateLimit(concurrency=...)", slot.limit, "a store that has leases")

    async def release(self, digest: str, slot: Slot) -> None:
        raise ConfigError("RateLimit(concurrency=...)", slot.limit, "a store that has leases")

    async def close(self) -> None:
        """``limits`` has no word for this."""


def _key(rate: Rate, digest: str) -> str:
    """A key without spaces and of ASCII only, as memcached wants it."""
    return quote(rate.key(digest, _STRATEGY), safe="/{}*:")
