"""What the middleware decides with: one interface for a store in this process and for one over a network.

Which of the two it is, is decided once, in :func:`open_backend`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Protocol
from weakref import WeakValueDictionary

from flexmw.kit.clock import Clock
from flexmw.kit.store_log import Fallback, StoreLog
from flexmw.kit.store_url import REDIS_FAMILIES, StorageURL, probe
from flexmw.ratelimit.algorithms import Algorithm
from flexmw.ratelimit.algorithms.base import PREFIX
from flexmw.ratelimit.concurrency import Lease, LocalLease
from flexmw.ratelimit.core import Check, CheckOutcome, Slot
from flexmw.ratelimit.fallback import FallbackBackend, StoreFailure
from flexmw.ratelimit.stores import LocalStore, open_store
from flexmw.ratelimit.stores.memcached import probe_memcached
from flexmw.ratelimit.stores.memory import MemoryStore

if TYPE_CHECKING:
    from flexmw.kit.redis_blocking import BlockingNodes

__all__ = ["LOGGER", "Backend", "LocalBackend", "check_backend", "open_backend"]

LOGGER: Final = "flexmw.ratelimit"

_FALLBACKS: Final = {
    "local": Fallback(
        "RateLimit counts in this process alone until it responds",
        "RateLimit decided {count} requests in this process alone",
    ),
    "open": Fallback("RateLimit lets every request pass until it responds", "RateLimit let {count} requests pass"),
    "closed": Fallback(
        "RateLimit refuses every request with 503 until it responds", "RateLimit refused {count} requests with 503"
    ),
}
"""What the log says of each mode of ``on_store_failure``."""


_logs: Final[WeakValueDictionary[tuple[str, str, int], StoreLog]] = WeakValueDictionary()
"""The logs of stores by URL, mode of ``on_store_failure`` and clock, while a limiter uses them."""


class Backend(Protocol):
    """A store with everything that belongs to it. No method raises because of the store."""

    async def decide(self, check: Check) -> CheckOutcome:
        """Check every rate and the slot, then take all of them or nothing."""
        ...

    async def refund(self, check: Check, age_us: int, *, degraded: bool) -> None:
        """Give the costs of a check back, even if the request is cancelled; charge negative costs.

        :param age_us: microseconds since the costs were taken.
        :param degraded: the costs were taken without the store.
        """
        ...

    def lease(self, digest: str, slot: Slot) -> Lease:
        """The lease of a slot that a check is about to ask for."""
        ...

    def check_event_loop(self) -> None:
        """:raises ConfigError: when the store cannot be used on this kind of event loop."""
        ...

    async def close(self) -> None:
        """Close the connections of this event loop."""
        ...

    @property
    def retry_in(self) -> float:
        """Seconds until a store that fails is asked again."""
        ...


class LocalBackend:
    """Decides by a store in this process, which cannot fail."""

    retry_in = 0.0

    def __init__(self, store: LocalStore) -> None:
        self.store = store

    async def decide(self, check: Check) -> CheckOutcome:
        # Without the constructor of the named tuple, which costs more than the decision of a window.
        return tuple.__new__(CheckOutcome, (self.store.decide(check), False, None))

    async def refund(self, check: Check, age_us: int, *, degraded: bool) -> None:
        self.store.refund(check, age_us)

    def lease(self, digest: str, slot: Slot) -> Lease:
        return LocalLease(self.store, digest, slot)

    def check_event_loop(self) -> None:
        """Nothing to check: no method waits."""

    async def close(self) -> None:
        """Nothing is open."""


def open_backend(
    url: StorageURL,
    algorithm: Algorithm,
    failure: StoreFailure,
    *,
    timeout: float,
    clock: Clock,
    cache_denials: bool,
) -> LocalBackend | FallbackBackend:
    """The backend of a checked URL; see :class:`FallbackBackend` for the parameters."""
    store = open_store(url, algorithm, clock)
    if isinstance(store, MemoryStore):
        return LocalBackend(store)
    log = _log_of(url, failure, clock)
    return FallbackBackend(
        store, algorithm, failure, timeout=timeout, clock=clock, cache_denials=cache_denials, log=log
    )


def _log_of(url: StorageURL, failure: StoreFailure, clock: Clock) -> StoreLog:
    """The log of a store. The limiters of one process share it: each route may have a limiter of its own, and an outage
    of the store that they share has two lines."""
    name = url.url, failure.mode, id(clock)
    log = _logs.get(name)
    if log is None:
        fallback = _FALLBACKS[failure.mode]
        log = StoreLog(LOGGER, url.shown, fallback, monotonic=clock.monotonic, secrets=url.secrets)
        _logs[name] = log
    log.expect_lines()
    return log


def check_backend(
    url: StorageURL, algorithm: Algorithm, option: str, *, prefix: str, slots: bool, lasting: bool, required: bool
) -> None:
    """Test a store at start-up: redis and valkey by a decision, memcached by a command, others by a connection.

    :param option: the name of the option, for the message of an error.
    :param prefix: the beginning of the keys.
    :param slots: whether decisions will take slots.
    :param lasting: whether a counter that is deleted before its time makes a difference: one of a day, a month or a
        budget. A WARNING then says that the server deletes keys when it is full.
    :param required: whether a store that cannot be reached now is an error.
    :raises ConfigError: when the store refuses what the limiter needs, or is required and cannot be reached.
    """
    log = logging.getLogger(LOGGER)
    if url.scheme.family in REDIS_FAMILIES:
        from flexmw.kit.redis_probe import evicting_policy, probe_redis
        from flexmw.ratelimit.stores.redis import RedisStore

        store = RedisStore(algorithm, url)

        def probe_store(client: BlockingNodes) -> None:
            store.probe(client, prefix=prefix, slots=slots)
            if lasting and (policy := evicting_policy(client, PREFIX)):
                log.warning(
                    "The store %s has the maxmemory-policy %s: once it is full, it deletes counters, and what a caller "
                    "has used of a limit of a day or longer is forgotten. Set maxmemory-policy noeviction: new callers "
                    "are then decided by on_store_failure while the server is full.",
                    url.shown,
                    policy,
                )

        probe_redis(url, option, probe_store, required=required, log=log)
    elif url.scheme.family == "memcached":
        probe_memcached(url, option, required=required, log=log)
    else:
        probe(url, option, required=required, log=log)
