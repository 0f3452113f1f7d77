"""Where the limiter keeps its counts: the interface of a store, and which store a URL means.

A store in this process is synchronous (:class:`LocalStore`), a store over a network is asynchronous
(:class:`RemoteStore`). Both decide one :class:`~flexmw.ratelimit.core.Check` in one step: every rate and the slot admit
the request, or nothing is taken.

Private: nothing in this package is for use outside flexmw.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Protocol

from limits import storage as limits_storages

from flexmw.errors import ConfigError
from flexmw.kit.clock import Clock
from flexmw.kit.store_url import REDIS_FAMILIES, StorageURL, schemes_of
from flexmw.ratelimit.algorithms import Algorithm
from flexmw.ratelimit.core import Check, LimitResult, Rate, Slot
from flexmw.ratelimit.stores.limits import LimitsStore, check_limits_store
from flexmw.ratelimit.stores.memory import MemoryStore

__all__ = ["LocalStore", "RemoteStore", "check_store", "open_store", "schemes"]

_OWN_FAMILIES: Final = ("memory", *REDIS_FAMILIES)
_SCHEMES: Final = schemes_of(*_OWN_FAMILIES, "memcached", "mongodb")


class LocalStore(Protocol):
    """A store inside this process. Thread-safe; no method waits."""

    def hit(self, digest: str, rates: tuple[Rate, ...], cost: int, now_us: int) -> LimitResult:
        """:meth:`decide` for a request without a slot and with one cost in every rate: the measured path.

        :param now_us: the monotonic clock in microseconds.
        """
        ...

    def decide(self, check: Check) -> LimitResult:
        """Check every rate and the slot, then take all of them or nothing."""
        ...

    def refund(self, check: Check, age_us: int) -> None:
        """Give the costs of a check back, ``age_us`` microseconds after they were taken; charge negative costs."""
        ...

    def release(self, digest: str, slot: Slot) -> None:
        """Give a slot back."""
        ...


class RemoteStore(Protocol):
    """A store over a network. Every method may raise, and may be cancelled."""

    async def decide(self, check: Check) -> LimitResult:
        """Check every rate and the slot, then take all of them or nothing."""
        ...

    async def refund(self, check: Check, age_us: int) -> None:
        """Give the costs of a check back, ``age_us`` microseconds after they were taken; charge negative costs."""
        ...

    async def renew(self, digest: str, slot: Slot, *, takes: bool = False) -> bool:
        """Begin the lease of a slot again.

        :param takes: take the slot if it is free, whatever the limit.
        :returns: whether the slot is held.
        """
        ...

    async def release(self, digest: str, slot: Slot) -> None:
        """Give a slot back."""
        ...

    async def close(self) -> None:
        """Close the connections of this event loop."""
        ...


def schemes() -> tuple[str, ...]:
    """The schemes that ``RateLimit(storage=...)`` accepts: flexmw's own, and those of every async storage that is
    registered with ``limits``."""
    registered: Mapping[str, Any] = getattr(limits_storages, "SCHEMES", {})
    others = {name.removeprefix("async+") for name in registered if name.startswith("async+")}
    return (*_SCHEMES, *sorted(others - {*_SCHEMES}))


def check_store(url: StorageURL, strategy: str, rates: Sequence[Rate], needs: Collection[str] = ()) -> None:
    """Refuse options that a store cannot serve.

    :param needs: the options in use that not every store can serve: a ``cost`` to settle, ``tokens``,
        ``concurrency``, several values of ``pepper``.
    :raises ConfigError: naming the option at fault and what the store can do.
    """
    if url.scheme.family not in _OWN_FAMILIES:
        check_limits_store(url, strategy, rates, needs)
    elif "pepper" in needs and url.scheme.family == "redis+cluster":
        expected = "one pepper: in a cluster the counters of two peppers lie on two nodes, and one command reaches one"
        raise ConfigError("RateLimit(pepper=...)", "<several>", expected)


def open_store(url: StorageURL, algorithm: Algorithm, clock: Clock) -> MemoryStore | RemoteStore:
    """The store behind a checked URL. Imports its driver; does not connect."""
    if url.scheme.family == "memory":
        return MemoryStore(algorithm, clock)
    if url.scheme.family in _OWN_FAMILIES:
        from flexmw.ratelimit.stores.redis import RedisStore

        return RedisStore(algorithm, url)
    return LimitsStore(algorithm, url, clock)
