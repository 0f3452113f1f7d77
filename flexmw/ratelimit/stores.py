"""Which store a URL means."""

from __future__ import annotations

from collections.abc import Sequence

from flexmw.errors import ConfigError
from flexmw.kit.clock import Clock
from flexmw.kit.storage import SCHEMES, StorageURL
from flexmw.ratelimit.core import Rate, Strategy
from flexmw.ratelimit.ladder import Store
from flexmw.ratelimit.memory import Memory

__all__ = ["check_store", "schemes", "store_of"]


def schemes() -> tuple[str, ...]:
    """The schemes of storage URLs that can be limited with."""
    return tuple(SCHEMES)


def check_store(url: StorageURL, strategy: str, rates: Sequence[Rate], option: str) -> None:
    """Refuse what a store cannot do.

    :raises ConfigError: naming what it can.
    """
    if url.scheme.family != "memory" and not url.scheme.family.startswith("redis"):
        raise ConfigError(
            "RateLimit(storage=...)", url.shown, "memory, redis or valkey: other stores are not built yet"
        )


def store_of(url: StorageURL, strategy: Strategy, clock: Clock) -> Store:
    """The store behind a checked URL; its driver is imported now."""
    if url.scheme.family == "memory":
        return Memory(strategy, clock)
    from flexmw.ratelimit.redis import Redis

    return Redis(strategy, url)
