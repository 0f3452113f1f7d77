"""Which store a URL means."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import limits.storage

from flexmw.errors import ConfigError
from flexmw.kit.clock import Clock
from flexmw.kit.store_url import StorageURL, schemes_of
from flexmw.ratelimit.algorithms.base import Algorithm
from flexmw.ratelimit.core import Rate
from flexmw.ratelimit.fallback import Store
from flexmw.ratelimit.stores.limits import Counted, check_counted
from flexmw.ratelimit.stores.memory import Memory

__all__ = ["check_store", "schemes", "store_of"]

_SCHEMES = schemes_of("memory", "redis", "redis+cluster", "memcached", "mongodb")


def schemes() -> tuple[str, ...]:
    """The schemes of storage URLs that can be limited with: our own, and those of every async storage that is
    registered with ``limits``, by itself or by the host."""
    registered: Mapping[str, Any] = getattr(limits.storage, "SCHEMES", {})
    others = {name.removeprefix("async+") for name in registered if name.startswith("async+")}
    return (*_SCHEMES, *sorted(others - {*_SCHEMES}))


def check_store(url: StorageURL, strategy: str, rates: Sequence[Rate], needs: Collection[str] = ()) -> None:
    """Refuse what a store cannot do.

    :param needs: options that not every store can serve: ``cost`` (to settle), ``tokens``, ``concurrency``, ``pepper``.
    :raises ConfigError: naming the option at fault and what the store can do.
    """
    if not _is_own(url):
        check_counted(url, strategy, rates, needs)
    elif "pepper" in needs and url.scheme.family == "redis+cluster":
        expected = "one pepper: in a cluster the counters of two peppers lie on two nodes, and one command reaches one"
        raise ConfigError("RateLimit(pepper=...)", "<several>", expected)


def store_of(url: StorageURL, strategy: Algorithm, clock: Clock) -> Store:
    """The store behind a checked URL; its driver is imported now."""
    if url.scheme.family == "memory":
        return Memory(strategy, clock)
    if _is_own(url):
        from flexmw.ratelimit.stores.redis import Redis

        return Redis(strategy, url)
    return Counted(strategy, url, clock)


def _is_own(url: StorageURL) -> bool:
    return url.scheme.family in ("memory", "redis", "redis+cluster")
