"""The store in redis or valkey under asyncio: no thread, and one connection for all requests of an event loop.

Under trio, and outside of an event loop, the blocking store does the same in threads.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from threading import Lock
from time import monotonic
from typing import Any, ParamSpec, Protocol, TypeVar
from weakref import WeakKeyDictionary

import anyio

from flexmw.idempotency.stores import Appended, BlockingLogStore, BlockingStore, Held, Piece, Swap
from flexmw.idempotency.stores.redis_log import APPEND, READ, appended, piece
from flexmw.idempotency.stores.redis_script import (
    ASKED,
    ENTRY,
    LATE,
    PAIR,
    PAIR_PATIENCE,
    ServerClock,
    glob_of,
    held_in,
    milliseconds,
    pair_of,
    pair_values,
    swap_of,
    too_late,
)
from flexmw.idempotency.stores.threads import Threaded
from flexmw.kit import time_limit
from flexmw.kit.forked import fork_safe
from flexmw.kit.loop_time import current_time
from flexmw.kit.redis_async import AsyncNodes
from flexmw.kit.redis_errors import code_of
from flexmw.kit.store_url import StorageURL

__all__ = ["AsyncRedisStore"]

P = ParamSpec("P")
T = TypeVar("T")

_CONNECT_SHARE = 0.5
"""The part of the time of an operation in which a connection must be made, so that the operation can still use it."""


class _BlockingRedis(BlockingStore, BlockingLogStore, Protocol):
    """The blocking store in redis."""

    clock: ServerClock


class AsyncRedisStore:
    """A :class:`~flexmw.idempotency.stores.Store` in redis or valkey, with the logs of responses.

    One object serves any number of event loops, of asyncio and of trio. Each event loop has connections of its own.

    :param blocking: the blocking store on the same server.
    :param url: a checked URL of a redis family.
    :param timeout: seconds that one operation may take in all.
    """

    obeys_time_limit = True
    """Every operation ends at the end of :mod:`flexmw.kit.time_limit`."""

    def __init__(self, blocking: _BlockingRedis, url: StorageURL, *, timeout: float) -> None:
        self.blocking = blocking
        self._url, self._timeout = url, timeout
        self._clock = blocking.clock
        self.store_time = blocking.clock.now
        self._threaded: Any = Threaded(blocking)
        self._nodes: WeakKeyDictionary[AbstractEventLoop, AsyncNodes] = WeakKeyDictionary()
        self._lock = fork_safe(Lock())

    async def load(self, key: str) -> Held | None:
        nodes = self._of_loop()
        if nodes is None:
            return await self._in_thread(self._threaded.load, key)
        reply = await nodes.run_script(ENTRY, 1, key, "load", "", end=self._end(nodes))
        self._clock.learn(reply)
        return held_in(reply)

    async def swap(self, key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float) -> Held | None:
        nodes = self._of_loop()
        if nodes is None:
            return await self._in_thread(self._threaded.swap, key, expected, token, entry, lease=lease, ttl=ttl)
        end, clock = self._end(nodes), self._clock
        for attempt in range(ASKED):
            times = milliseconds(lease), milliseconds(ttl), clock.deadline_ms(_real(nodes, end))
            values = "swap", token, expected, entry, *times
            reply = await nodes.run_script(ENTRY, 1, key, *values, end=end, at_once=attempt > 0)
            clock.learn(reply)
            if reply[0] != LATE:
                return swap_of(reply, token, entry, lease)
        raise too_late()

    async def swap_pair(self, first: Swap, second: Swap) -> tuple[Held | None, Held | None]:
        nodes = self._of_loop()
        if nodes is None:
            return await self._in_thread(self._threaded.swap_pair, first, second)
        end = self._end(nodes)
        for attempt in range(ASKED):
            values = pair_values(first, second, self._clock.deadline_ms(_real(nodes, end)))
            try:
                reply = await nodes.run_script(PAIR, 2, *values, end=end, patience=PAIR_PATIENCE, at_once=attempt > 0)
            except Exception as error:
                if code_of(error) != "TRYAGAIN":
                    raise
                return await self._swap_each(first, second, nodes, end)
            self._clock.learn(reply)
            if reply[0] != LATE:
                return pair_of(reply, first, second)
        raise too_late()

    async def _swap_each(
        self, first: Swap, second: Swap, nodes: AsyncNodes, end: float
    ) -> tuple[Held | None, Held | None]:
        """The same in two steps. While a cluster moves a slot, no node executes a script on two keys."""
        with time_limit.within(end - nodes.time.now(), nodes.time):
            held = await self.swap(*first[:4], lease=first.lease, ttl=first.ttl)
            if held is None or held.token != first.token:
                return held, None
            return held, await self.swap(*second[:4], lease=second.lease, ttl=second.ttl)

    async def extend(self, key: str, token: str, *, lease: float, ttl: float) -> bool:
        nodes = self._of_loop()
        if nodes is None:
            return await self._in_thread(self._threaded.extend, key, token, lease=lease, ttl=ttl)
        times = milliseconds(lease), milliseconds(ttl)
        return bool((await nodes.run_script(ENTRY, 1, key, "extend", token, *times, end=self._end(nodes)))[0])

    async def extend_many(self, leases: Sequence[tuple[str, str, float, float]]) -> list[bool]:
        nodes = self._of_loop()
        if nodes is None:
            return await self._in_thread(self._threaded.extend_many, leases)
        calls = [(key, "extend", token, milliseconds(lease), milliseconds(ttl)) for key, token, lease, ttl in leases]
        return [bool(reply[0]) for reply in await nodes.run_scripts(ENTRY, calls, end=self._end(nodes))]

    async def drop(self, key: str, token: str) -> bool:
        nodes = self._of_loop()
        if nodes is None:
            return await self._in_thread(self._threaded.drop, key, token)
        return bool((await nodes.run_script(ENTRY, 1, key, "drop", token, end=self._end(nodes)))[0])

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
        nodes = self._of_loop()
        if nodes is None:
            append = self._threaded.append
            return await self._in_thread(
                append, key, token, generation, at, data, head=head, last=last, lease=lease, ttl=ttl
            )
        values = key, generation, token, at, data, head, int(last), milliseconds(lease), milliseconds(ttl)
        return appended(await nodes.run_script(APPEND, 1, *values, end=self._end(nodes)))

    async def read(self, key: str, generation: str, start: int, limit: int) -> Piece | None:
        nodes = self._of_loop()
        if nodes is None:
            return await self._in_thread(self._threaded.read, key, generation, start, limit)
        return piece(await nodes.run_script(READ, 1, key, generation, start, limit, end=self._end(nodes)))

    async def scan(self, prefix: str = "") -> AsyncIterator[tuple[str, Held]]:
        nodes = self._of_loop()
        if nodes is None:
            async for item in self._threaded.scan(prefix):
                yield item
            return
        seen: set[str] = set()
        async for raw in nodes.scan_iter(glob_of(prefix), 500, seconds=self._timeout):
            key = raw.decode()
            held = None if key in seen else await self.load(key)
            seen.add(key)
            if held is not None:
                yield key, held

    async def aclose(self) -> None:
        running = _running_loop()
        if running is None:
            await self._threaded.aclose()
        else:
            self.blocking.close()
        with self._lock:
            all_nodes = list(self._nodes.items())
            self._nodes.clear()
        for loop, nodes in all_nodes:
            if loop is running:
                await nodes.aclose()
            elif not loop.is_closed():
                loop.call_soon_threadsafe(nodes.retire)

    def _of_loop(self) -> AsyncNodes | None:
        """The client of the running event loop of asyncio; ``None`` where none runs."""
        loop = _running_loop()
        if loop is None:
            return None
        nodes = self._nodes.get(loop)
        if nodes is None:
            with self._lock:
                for closed in [known for known in self._nodes if known.is_closed()]:
                    del self._nodes[closed]  # its client keeps it alive
                nodes = self._nodes[loop] = AsyncNodes(
                    self._url, connect_timeout=self._timeout * _CONNECT_SHARE, time=current_time(self._timeout)
                )
        return nodes

    def _end(self, nodes: AsyncNodes) -> float:
        """The end of the time of an operation that begins now, by the clock of the event loop."""
        return nodes.time.now() + min(time_limit.remaining(), self._timeout)

    async def _in_thread(self, operation: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        with time_limit.within(self._timeout), anyio.fail_after(max(0.0, time_limit.remaining())):
            return await operation(*args, **kwargs)


def _real(nodes: AsyncNodes, end: float) -> float:
    """The end of the time of an operation by :func:`time.monotonic`. It is later if the event loop is blocked from now
    on, so a server that knows this one refuses rather too much."""
    return monotonic() + end - nodes.time.now()


def _running_loop() -> AbstractEventLoop | None:
    try:
        return get_running_loop()
    except RuntimeError:
        return None
