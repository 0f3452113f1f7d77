"""Run a blocking store in worker threads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Final, Self, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from anyio.lowlevel import RunVar

from flexmw.idempotency.stores import Appended, BlockingLogStore, BlockingStore, Held, Piece, StoreTime

__all__ = ["Threaded"]

T = TypeVar("T")

_OPTIONAL: Final = ("extend_many", "swap_pair")
"""The methods of :class:`~flexmw.idempotency.stores.ManyLeases` and :class:`~flexmw.idempotency.stores.SwapPairs`."""

_limiters: RunVar[dict[int, CapacityLimiter]] = RunVar("flexmw.idempotency.limiters")
"""The thread limiter of each :class:`Threaded` in the running event loop, by the ``id()`` of the store."""


class Threaded:
    """A :class:`~flexmw.idempotency.stores.BlockingStore` as a :class:`~flexmw.idempotency.stores.Store`.

    Works under asyncio and trio. The store has threads of its own, because sync endpoints may have taken all threads
    of the framework, and a heartbeat must not wait for them.

    :param blocking: the store to run.
    :param threads: number of threads that are used at the same time in each event loop.
    """

    def __new__(cls, blocking: BlockingStore, *, threads: int = 8) -> Self:
        """A store that offers logs exactly if ``blocking`` does: :class:`flexmw.idempotency.LogStore` is found by its
        methods."""
        return super().__new__(_ThreadedLogs if cls is Threaded and isinstance(blocking, BlockingLogStore) else cls)  # type: ignore[return-value]

    def __init__(self, blocking: BlockingStore, *, threads: int = 8) -> None:
        self.blocking = blocking
        self._threads = threads
        # Attributes of the object, so that the store has a method exactly if the blocking store has it.
        for name in _OPTIONAL:
            if hasattr(blocking, name):
                setattr(self, name, partial(self._call, getattr(blocking, name)))
        if isinstance(blocking, StoreTime):
            self.store_time = blocking.store_time

    async def load(self, key: str) -> Held | None:
        return await self._run(partial(self.blocking.load, key))

    async def swap(self, key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float) -> Held | None:
        return await self._run(partial(self.blocking.swap, key, expected, token, entry, lease=lease, ttl=ttl))

    async def extend(self, key: str, token: str, *, lease: float, ttl: float) -> bool:
        return await self._run(partial(self.blocking.extend, key, token, lease=lease, ttl=ttl))

    async def _call(self, method: Callable[..., T], *arguments: Any) -> T:
        return await self._run(partial(method, *arguments))

    async def drop(self, key: str, token: str) -> bool:
        return await self._run(partial(self.blocking.drop, key, token))

    async def scan(self, prefix: str = "") -> AsyncIterator[tuple[str, Held]]:
        for item in await self._run(lambda: list(self.blocking.scan(prefix))):
            yield item

    async def aclose(self) -> None:
        await self._run(self.blocking.close)
        _limiters.get({}).pop(id(self), None)

    async def _run(self, call: Callable[[], T]) -> T:
        limiters = _limiters.get(None)
        if limiters is None:
            limiters = dict[int, CapacityLimiter]()
            _limiters.set(limiters)
        limiter = limiters.get(id(self))
        if limiter is None:
            limiter = limiters[id(self)] = CapacityLimiter(self._threads)
        # An operation whose time is over is left to its thread, which ends with the same time limit.
        return await anyio.to_thread.run_sync(call, limiter=limiter, abandon_on_cancel=True)


class _ThreadedLogs(Threaded):
    """A blocking store that offers logs."""

    blocking: BlockingLogStore  # type: ignore[assignment]

    async def append(
        self,
        key: str,
        token: str,
        generation: str,
        at: int,
        data: bytes,
        *,
        head: bytes = b"",
        last: bool = False,
        lease: float,
        ttl: float,
    ) -> Appended | None:
        append = partial(self.blocking.append, key, token, generation, at, data)
        return await self._run(partial(append, head=head, last=last, lease=lease, ttl=ttl))

    async def read(self, key: str, generation: str, start: int, limit: int) -> Piece | None:
        return await self._run(partial(self.blocking.read, key, generation, start, limit))
