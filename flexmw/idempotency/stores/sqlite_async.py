"""A SQLite store for event loops: one thread commits writes in groups, and another thread reads at the same time.

The claims and responses of all requests that wait at a moment are written in one transaction with one sync of the disk,
and each request goes on when that transaction is durable. Works under asyncio and trio, and for several event loops.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from types import CoroutineType
from typing import Any

import anyio
import anyio.to_thread

from flexmw.idempotency.stores import Appended, Held, Piece, Swap
from flexmw.idempotency.stores import sqlite_operations as operations
from flexmw.idempotency.stores.batch_thread import BatchThread
from flexmw.idempotency.stores.sqlite_store import SQLiteStore

__all__ = ["AsyncSQLiteStore"]


class AsyncSQLiteStore:
    """A :class:`~flexmw.idempotency.stores.LogStore` in a SQLite file.

    :param blocking: the store that the threads use.
    """

    obeys_time_limit = True
    """Every operation ends at the end of :mod:`flexmw.kit.time_limit`."""

    def __init__(self, blocking: SQLiteStore) -> None:
        self.blocking = blocking
        self.store_time = blocking.store_time
        self._reader = BatchThread("flexmw-sqlite-reader", blocking.read_all)
        self._writer = BatchThread("flexmw-sqlite-writer", blocking.write_all)

    def load(self, key: str) -> CoroutineType[Any, Any, Held | None]:
        return self._reader.run(operations.load(key))  # type: ignore[return-value]

    def swap(
        self, key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float
    ) -> CoroutineType[Any, Any, Held | None]:
        swap = operations.swap(key, expected, token, entry, lease=lease, ttl=ttl)
        return self._writer.run(swap)  # type: ignore[return-value]

    async def swap_pair(self, first: Swap, second: Swap) -> tuple[Held | None, Held | None]:
        """:meth:`flexmw.idempotency.stores.SwapPairs.swap_pair` in one transaction."""
        return await self._writer.run(operations.swap_pair(first, second))

    async def extend(self, key: str, token: str, *, lease: float, ttl: float) -> bool:
        return await self._writer.run(operations.extend(key, token, lease=lease, ttl=ttl))

    async def extend_many(self, leases: Sequence[tuple[str, str, float, float]]) -> Sequence[bool]:
        """Renew leases in one transaction, and return for each what ``extend`` returns.

        :param leases: key, token, seconds of the lease and seconds to live of each.
        """
        return await self._writer.run(operations.extend_many(leases))

    async def drop(self, key: str, token: str) -> bool:
        return await self._writer.run(operations.drop(key, token))

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
        append = operations.append(key, token, generation, at, data, head=head, last=last, lease=lease, ttl=ttl)
        return await self._writer.run(append)

    async def read(self, key: str, generation: str, start: int, limit: int) -> Piece | None:
        piece, is_new_reader = await self._reader.run(operations.read(key, generation, start, limit))
        if is_new_reader:
            await self._writer.run(operations.note_reader(key))
        return piece

    async def scan(self, prefix: str = "") -> AsyncIterator[tuple[str, Held]]:
        for key in await self._reader.run(operations.keys(prefix)):
            held = await self.load(key)
            if held is not None:
                yield key, held

    async def aclose(self) -> None:
        """Wait for the operations that were begun or wait, end the threads, and close the connections."""
        await self._reader.aclose()
        await self._writer.aclose()
        await anyio.to_thread.run_sync(self.blocking.close, limiter=anyio.CapacityLimiter(1), abandon_on_cancel=True)
