"""The store in anything that can count: memcached, mongodb and every other async storage of ``limits``.

Each window is one ``incr`` of a counter that begins and ends with the clock. A request that is refused counts in the
windows that were asked up to the refusal. What such a store cannot do is refused at start: algorithms other than the
fixed window, windows that the store cannot hold, and every option that gives something back.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final
from urllib.parse import quote

from limits.errors import ConfigurationError
from limits.storage import storage_from_string

from flexmw.errors import ConfigError
from flexmw.kit.clock import Clock
from flexmw.kit.store_url import StorageURL
from flexmw.ratelimit.algorithms import Algorithm
from flexmw.ratelimit.algorithms.windows import result_of
from flexmw.ratelimit.core import SECOND, Check, LimitResult, Rate, Slot
from flexmw.ratelimit.stores.memcached import Login, credentials_of, hosts_of, short_key

__all__ = ["MEMCACHED_SECONDS", "LimitsStore", "check_limits_store"]

MEMCACHED_SECONDS: Final = 30 * 86_400
"""The longest time to live. memcached takes a larger number for a Unix time, and the counter is gone at once."""

_STORAGE: Final = "RateLimit(storage=...)"
_STRATEGY: Final = "fixed-window"
_UNSUPPORTED: Final = {
    "cost": ("<function>", "a whole number: {store} cannot give a reserve back"),
    "tokens": ("<rates>", "none, or memory:// or redis://: {store} cannot give a reserve back"),
    "concurrency": ("<slots>", "none, or memory:// or redis://: {store} has no leases"),
    "pepper": ("<several>", "one pepper, or redis://: {store} cannot move what was counted under another"),
}


def check_limits_store(url: StorageURL, strategy: str, rates: Sequence[Rate], needs: Collection[str]) -> None:
    """Refuse options that this store cannot serve.

    :param needs: the options in use that ask for more than counting: a ``cost`` to settle, ``tokens``,
        ``concurrency``, several values of ``pepper``.
    :raises ConfigError: naming the option at fault.
    """
    store = url.scheme.family
    if strategy != _STRATEGY:
        raise ConfigError("RateLimit(strategy=...)", strategy, f"'{_STRATEGY}': {store} can count, and no more")
    for option in needs:
        if option in _UNSUPPORTED:
            value, expected = _UNSUPPORTED[option]
            raise ConfigError(f"RateLimit({option}=...)", value, expected.format(store=store))
    if store == "memcached" and (url.path or "?" in url.shown):
        raise ConfigError(_STORAGE, url.shown, "hosts alone: a path or an option has no effect on memcached")
    for rate in rates:
        if store == "memcached" and rate.seconds > MEMCACHED_SECONDS:
            raise ConfigError("RateLimit(*rates)", rate.name, "windows of 30 days at most: memcached holds none longer")


class LimitsStore:
    """Counts by this machine's clock. Machines whose clocks differ disagree about when a window ends."""

    def __init__(self, algorithm: Algorithm, url: StorageURL, clock: Clock) -> None:
        self._algorithm = algorithm
        self._now = clock.now
        self._is_memcached = url.scheme.family == "memcached"
        scheme, _, rest = url.url.removeprefix("async+").partition("://")
        options: dict[str, Any] = {"implementation": "redispy"} if scheme.startswith("redis") else {}
        place = rest
        if self._is_memcached:
            place, credentials = hosts_of(url), credentials_of(url)
            options = {"authenticator": Login(credentials)} if credentials else {}
        try:
            self._storage: Any = storage_from_string(f"async+{scheme}://{place}", **options)
        except ConfigurationError as error:
            problem = str(error) if "@" not in rest else "limits cannot read it"  # its text has the whole URL
            raise ConfigError(_STORAGE, url.shown, f"a URL that limits can open ({problem})") from None

    async def decide(self, check: Check) -> LimitResult:
        """Count in every window, up to the first that is full."""
        digest, rates, costs, _, _, take = check
        now_us = int(self._now() * SECOND)
        states: list[tuple[int, int]] = []  # of the fixed window: its end and its count
        for rate, cost in zip(rates, costs, strict=True):
            window = now_us // rate.window_us
            # The key of a window of the calendar has its period already.
            ends_at_us = rate.ends_at_us or (window + 1) * rate.window_us
            key = _key(rate, digest) if rate.ends_at_us else f"{_key(rate, digest)}/{window}"
            if self._is_memcached:
                key = short_key(key)
            if take and cost:
                count = await self._storage.incr(key, rate.seconds, amount=cost)
            else:
                count = await self._storage.get(key) + cost
            states.append((ends_at_us, count))
            if count > rate.limit:
                before = _without(states, costs)
                asked = len(states)
                return result_of(self._algorithm, rates[:asked], before, now_us, costs[:asked], admitted=False)
        if not take:
            states = _without(states, costs)
        return result_of(self._algorithm, rates, states, now_us, costs, admitted=True)

    async def refund(self, check: Check, age_us: int = 0) -> None:
        raise ConfigError("RateLimit(cost=...)", check.costs, "a store that can give back")

    async def renew(self, digest: str, slot: Slot, *, takes: bool = False) -> bool:
        raise ConfigError("RateLimit(concurrency=...)", slot.limit, "a store that has leases")

    async def release(self, digest: str, slot: Slot) -> None:
        raise ConfigError("RateLimit(concurrency=...)", slot.limit, "a store that has leases")

    async def close(self) -> None:
        """Nothing: storages of ``limits`` have no method to close them."""


def _without(states: Sequence[tuple[int, int]], costs: Sequence[int]) -> list[tuple[int, int]]:
    """The states as they were before the costs were counted."""
    return [(end_us, count - cost) for (end_us, count), cost in zip(states, costs, strict=False)]


def _key(rate: Rate, digest: str) -> str:
    """A key without spaces and in ASCII, as memcached requires."""
    return quote(rate.key(digest, _STRATEGY), safe="/{}*:@")
