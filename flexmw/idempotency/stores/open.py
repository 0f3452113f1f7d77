"""Where keys are kept: one interface, and the stores that a URL can name.

>>> import anyio
>>> async def claim_twice(store: Store) -> list[bool]:
...     first = await store.swap("k", "", "mine", b"running", lease=60.0, ttl=86400.0)
...     second = await store.swap("k", "", "yours", b"running", lease=60.0, ttl=86400.0)
...     return [first.token == "mine", second.token == "yours"]
>>> anyio.run(claim_twice, open_store("memory://"))
[True, False]

A plugin's store is any object with these methods; ``flexmw.testing.check_store`` holds one against them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any, Final, NamedTuple, Protocol, TypeVar, runtime_checkable

import anyio.to_thread
from anyio import CapacityLimiter
from anyio.lowlevel import RunVar

from flexmw.errors import ConfigError
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.store_url import parse, probe, schemes_of

__all__ = ["SCHEMES", "BlockingStore", "Held", "Store", "Threaded", "open_store"]

SCHEMES: Final = schemes_of("memory", "sqlite", "redis", "redis+cluster")
"""What ``storage="..."`` may begin with."""


class Held(NamedTuple):
    """What a store holds under a key.

    ``token`` is who wrote it, ``entry`` the bytes, ``lease`` the seconds that it is still alive by the store's own
    time (0 or less: the lease has run out).
    """

    token: str
    entry: bytes
    lease: float


@runtime_checkable
class Store(Protocol):
    """Compare and swap on small entries, each with a token, a lease and a time to live (seconds).

    Every method is atomic, safe across tasks, threads, processes and machines as far as the store reaches, and raises
    an ``Exception`` when the store cannot be reached. No entry outlives its ``ttl``. Leases are measured by a time that
    all users of the store share and that no change of a machine's wall clock moves, as far as the store can know one.
    """

    async def load(self, key: str) -> Held | None:
        """What is held under ``key``."""
        ...

    async def swap(self, key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float) -> Held | None:
        """Write ``entry`` under ``key`` if the token held there is ``expected`` (``""``: nothing is held).

        Returns what is held afterwards: the write took place exactly if that has ``token``. Repeating a call whose
        outcome was lost is harmless: where ``token`` is already held it changes nothing and reports success.
        """
        ...

    async def extend(self, key: str, token: str, *, lease: float, ttl: float) -> bool:
        """Renew lease and time to live if ``token`` is still the one held; says whether it was."""
        ...

    async def drop(self, key: str, token: str) -> bool:
        """Forget ``key`` if ``token`` is the one held; says whether it was."""
        ...

    def scan(self, prefix: str = "") -> AsyncIterator[tuple[str, Held]]:
        """All keys that begin with ``prefix``, each once, in any order: for operators, not for requests."""
        ...

    async def aclose(self) -> None:
        """Give up connections. The store may be used again: it opens new ones."""
        ...


class BlockingStore(Protocol):
    """The same as :class:`Store` for libraries that block: :class:`Threaded` runs it off the event loop."""

    def load(self, key: str) -> Held | None: ...
    def swap(self, key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float) -> Held | None: ...
    def extend(self, key: str, token: str, *, lease: float, ttl: float) -> bool: ...
    def drop(self, key: str, token: str) -> bool: ...
    def scan(self, prefix: str = "") -> Iterator[tuple[str, Held]]: ...
    def close(self) -> None: ...


T = TypeVar("T")

_limiters: RunVar[dict[int, CapacityLimiter]] = RunVar("flexmw.idempotency.limiters")


class Threaded:
    """A blocking store as a :class:`Store`: its calls run in worker threads, under asyncio and trio alike.

    They have threads of their own (``threads`` at a time for each event loop), so that sync endpoints, which may have
    taken all of the host's, cannot starve a heartbeat.
    """

    __slots__ = ("_threads", "blocking")

    def __init__(self, blocking: BlockingStore, *, threads: int = 8) -> None:
        self.blocking = blocking
        self._threads = threads

    async def load(self, key: str) -> Held | None:
        return await self._run(partial(self.blocking.load, key))

    async def swap(self, key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float) -> Held | None:
        return await self._run(partial(self.blocking.swap, key, expected, token, entry, lease=lease, ttl=ttl))

    async def extend(self, key: str, token: str, *, lease: float, ttl: float) -> bool:
        return await self._run(partial(self.blocking.extend, key, token, lease=lease, ttl=ttl))

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
        return await anyio.to_thread.run_sync(call, limiter=limiter)


def open_store(
    storage: str | Store,
    *,
    option: str = "storage",
    timeout: float = 2.0,
    capacity: int = 10_000,
    max_bytes: int = 64 * 1024 * 1024,
    reach: bool = False,
    clock: Clock = SYSTEM,
) -> Store:
    """The store that a URL names; a store object is given back as it is.

    ``sqlite:///keys.db`` is a file beside the process, ``sqlite:////var/keys.db`` an absolute path.

    :param timeout: seconds that one operation may take. :param capacity: keys and ``max_bytes`` bytes that a memory
        store holds at most. :param reach: connect once, now.
    :raises ConfigError: for a URL that cannot work, or (``reach``) a store that is not there; named by ``option``.
    """
    if not isinstance(storage, str):
        if not isinstance(storage, Store):
            raise ConfigError(option, storage, "a storage URL such as 'sqlite:///keys.db', or a flexmw Store")
        return storage
    url = parse(storage, option, schemes=SCHEMES)
    arguments: dict[str, Any]
    if url.scheme.family == "memory":
        from flexmw.idempotency.stores.memory import MemoryStore

        return MemoryStore(capacity=capacity, max_bytes=max_bytes, clock=clock)
    if url.scheme.family == "sqlite":
        from flexmw.idempotency.stores.sqlite import SQLiteStore, path_of

        sqlite = SQLiteStore(path_of(storage, option), timeout=timeout, clock=clock)
        sqlite.check(option)
        return Threaded(sqlite, threads=2)
    from flexmw.idempotency.stores.redis import RedisStore

    if reach:
        probe(url, option)
    arguments = {"cluster": url.scheme.family == "redis+cluster", "nodes": url.nodes}
    return Threaded(RedisStore(storage, timeout=timeout, **arguments))
