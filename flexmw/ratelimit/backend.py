"""What the middleware decides with: one interface for a store in this process and for one over a network.

Which of the two it is, is decided once, in :func:`open_backend`.
"""

from __future__ import annotations

from typing import Protocol

from flexmw.kit.clock import Clock
from flexmw.kit.store_url import StorageURL
from flexmw.ratelimit.algorithms import Algorithm
from flexmw.ratelimit.concurrency import Lease, LocalLease
from flexmw.ratelimit.core import Check, CheckOutcome, Slot
from flexmw.ratelimit.fallback import FallbackBackend, StoreFailure
from flexmw.ratelimit.stores import LocalStore, open_store
from flexmw.ratelimit.stores.memory import MemoryStore

__all__ = ["Backend", "LocalBackend", "open_backend"]


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
    return FallbackBackend(store, algorithm, failure, timeout=timeout, clock=clock, cache_denials=cache_denials)
