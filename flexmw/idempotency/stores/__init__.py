"""The interface of a store of idempotency keys: compare-and-swap on small entries with a lease and a time to live.

>>> import anyio
>>> from flexmw.idempotency import open_store
>>> async def claim_twice(store: Store) -> list[bool]:
...     first = await store.swap("k", "", "mine", b"running", lease=60.0, ttl=86400.0)
...     second = await store.swap("k", "", "yours", b"running", lease=60.0, ttl=86400.0)
...     return [first.token == "mine", second.token == "yours"]
>>> anyio.run(claim_twice, open_store("memory://"))
[True, False]

The modules beside this one implement it: ``memory``, ``sqlite`` and ``redis``. ``threads`` makes a :class:`Store` of a
:class:`BlockingStore`, and ``open`` finds the store that a URL names. Any other object with the methods of
:class:`Store` is a store too; ``flexmw.testing.check_store`` tests whether it keeps the promises of the interface.

Private: nothing in this package is for use outside flexmw.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

from flexmw.kit.clock import SYSTEM, Clock

__all__ = [
    "Appended",
    "BlockingLogStore",
    "BlockingStore",
    "Full",
    "Held",
    "LogStore",
    "ManyLeases",
    "Piece",
    "Store",
    "StoreOptions",
    "StoreTime",
    "Swap",
    "SwapPairs",
]


class Full(Exception):
    """The store is full, and every key in it belongs to a request that still runs. Nothing was written."""


class Held(NamedTuple):
    """What a store holds under one key.

    :param token: the token of the last write.
    :param entry: the bytes of the last write.
    :param lease: the seconds that are left of the lease, by the store's own time; 0 or less when the lease has run out.
    """

    token: str
    entry: bytes
    lease: float


@runtime_checkable
class Store(Protocol):
    """Compare-and-swap on small entries. Each entry has a token, a lease and a time to live (seconds).

    Every method is atomic across the tasks, threads, processes and machines that share the store, and raises an
    ``Exception`` when the store cannot be reached. No entry outlives its ``ttl``. Leases are measured by a time that
    all users of the store share and that no change of a machine's wall clock moves, as far as the store can know one.
    """

    async def load(self, key: str) -> Held | None:
        """Return what is held under ``key``."""
        ...

    async def swap(self, key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float) -> Held | None:
        """Write ``entry`` under ``key`` if the token held there is ``expected`` (``""``: nothing is held).

        A store with bounds deletes keys whose lease has run out to make room, the oldest first, and raises
        :class:`Full` where none is left.

        Return what is held afterwards: the write took place exactly if that has ``token``. Repeating a lost call is
        harmless: where ``token`` is already held, the call changes nothing and reports success.
        """
        ...

    async def extend(self, key: str, token: str, *, lease: float, ttl: float) -> bool:
        """Renew lease and time to live if ``token`` is the token held under ``key``. Return whether it is."""
        ...

    async def drop(self, key: str, token: str) -> bool:
        """Delete ``key`` if ``token`` is the token held under it. Return whether it was."""
        ...

    def scan(self, prefix: str = "") -> AsyncIterator[tuple[str, Held]]:
        """Yield every key that begins with ``prefix``, each once, in any order. Meant for operators: it reads all."""
        ...

    async def aclose(self) -> None:
        """Close all connections. A store that is used afterwards opens new connections."""
        ...


class Appended(NamedTuple):
    """The log of a response after a write.

    :param size: length of the log in bytes.
    :param wanted: seconds since a reader of the key last called ``read``; ``inf`` if none has.
    """

    size: int
    wanted: float


class Piece(NamedTuple):
    """A part of the log of a response.

    :param head: the bytes that the first ``append`` of the log carried as its ``head``.
    :param data: the bytes of the log from ``start`` on, at most ``limit`` of them.
    :param size: length of the whole log in bytes.
    :param ended: whether an ``append`` with ``last`` was carried out.
    :param lease: the seconds that are left of the lease of the key; 0 or less when the lease has run out.
    """

    head: bytes
    data: bytes
    size: int
    ended: bool
    lease: float


@runtime_checkable
class LogStore(Protocol):
    """What a :class:`Store` can offer besides: the log of a response that is still being made.

    Other processes send a running response from its log. A key has at most one log. The log belongs to the token that
    is held under the key: a successful ``swap`` or ``drop`` of the key deletes the log in the same atomic step, and no
    log outlives its key. Without these two methods a response can be continued in its own process alone.

    The methods are atomic and raise like those of :class:`Store`.
    """

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
        """Append ``data`` at offset ``at`` of the log, and renew lease and time to live of the key.

        Return ``None``, and change nothing, unless ``token`` is the token held under ``key`` and the log of this
        generation has ``at`` bytes, where a generation without a log has 0 bytes. A log of another generation is
        deleted by an append at 0. Repeating a lost call is harmless: where the log has ``at + len(data)`` bytes
        already, the call adds nothing and reports success. ``head`` is stored by an append at 0 and ignored by others.
        ``last`` closes the log: nothing can be appended afterwards.
        """
        ...

    async def read(self, key: str, generation: str, start: int, limit: int) -> Piece | None:
        """Return at most ``limit`` bytes of the log of ``generation`` from offset ``start`` on.

        Return ``None`` if the key has no log of this generation. The time of the call is stored with the key in both
        cases, if the key is held: ``append`` returns it as :attr:`Appended.wanted`. A store may store that time up to
        0.25 seconds late.
        """
        ...


@runtime_checkable
class ManyLeases(Protocol):
    """What a :class:`Store` can offer besides: the renewal of many leases at once."""

    async def extend_many(self, leases: Sequence[tuple[str, str, float, float]]) -> Sequence[bool]:
        """Renew the lease of each ``(key, token, lease, ttl)``, as ``extend`` renews one of them.

        Return for each, in order, whether ``token`` is the token held under ``key``. The renewals are independent of
        each other: each is atomic, all of them together are not. Raise if one of them fails; any of the others may
        have taken place.
        """
        ...


class Swap(NamedTuple):
    """The arguments of one :meth:`Store.swap`."""

    key: str
    expected: str
    token: str
    entry: bytes
    lease: float
    ttl: float


@runtime_checkable
class SwapPairs(Protocol):
    """What a :class:`Store` can offer besides: two writes in one step.

    The call of an SDK without a key is claimed by one such step, and its response is stored by another one: the record
    of the call is the first key, the list of equal calls the second.
    """

    async def swap_pair(self, first: Swap, second: Swap) -> tuple[Held | None, Held | None]:
        """Carry out ``first``, and ``second`` exactly if the key of ``first`` then holds its token.

        Return what each key holds afterwards, as ``swap`` does, and ``None`` for ``second`` if it was not carried out.
        Repeating a lost call is harmless. The two keys have the same part in braces, so a cluster has both on one node.
        """
        ...


@runtime_checkable
class StoreTime(Protocol):
    """What a :class:`Store` can offer besides: a time that all its users share.

    The attempts of an SDK's call are compared by it. Without it they are compared by the wall clocks of the machines.
    """

    def store_time(self) -> float | None:
        """Seconds since any moment. No change of a machine's wall clock moves the time, as far as the store can know
        one. ``None``: the time is known after the next operation."""
        ...


class BlockingStore(Protocol):
    """The methods of :class:`Store` for libraries that block.

    :class:`flexmw.idempotency.stores.threads.Threaded` runs it outside the event loop.
    """

    def load(self, key: str) -> Held | None: ...
    def swap(self, key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float) -> Held | None: ...
    def extend(self, key: str, token: str, *, lease: float, ttl: float) -> bool: ...
    def drop(self, key: str, token: str) -> bool: ...
    def scan(self, prefix: str = "") -> Iterator[tuple[str, Held]]: ...
    def close(self) -> None: ...


@runtime_checkable
class BlockingLogStore(Protocol):
    """The methods of :class:`LogStore` for libraries that block."""

    def append(
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
    ) -> Appended | None: ...
    def read(self, key: str, generation: str, start: int, limit: int) -> Piece | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """How a store is opened: the second argument of a store factory. A factory ignores what does not concern it.

    :param option: the name of the option that holds the URL, for the message of a ``ConfigError``.
    :param timeout: seconds that one operation may take.
    :param capacity: number of keys that an embedded store holds at most.
    :param max_bytes: bytes of entries and logs that an embedded store holds at most.
    :param reach: connect now, and raise ``ConfigError`` when the store cannot be reached.
    :param probe: connect now, and raise ``ConfigError`` when the store refuses what it is asked to do. A store that
        cannot be reached is left for later.
    :param prefix: the beginning of all keys, for the key that is written to test the store.
    :param existing: open a store only if another process can have written it. A file is then not created, and an
        in-memory store is a ``ConfigError``.
    :param clock: the time by which an embedded store measures leases and times to live.
    """

    option: str = "storage"
    timeout: float = 2.0
    capacity: int = 10_000
    max_bytes: int = 64 * 1024 * 1024
    reach: bool = False
    probe: bool = False
    prefix: str = "flexmw:idempotency"
    existing: bool = False
    clock: Clock = field(default=SYSTEM, repr=False)
