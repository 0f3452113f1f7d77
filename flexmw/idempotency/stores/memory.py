"""A store in the memory of one process, for development, tests and a single worker.

>>> import anyio
>>> store = MemoryStore(capacity=100)
>>> anyio.run(store.load, "k") is None
True
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from math import inf
from threading import Lock
from typing import Any, Final, cast

from flexmw.errors import ConfigError
from flexmw.idempotency.core import Record
from flexmw.idempotency.stores import Appended, Full, Held, Piece, Store, StoreOptions
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.forked import fork_safe

__all__ = ["Full", "MemoryStore", "RecordsInMemory", "from_url"]

_tokens: Final = count(1)
_SWEEP: Final = 16
"""Number of expired keys that one write removes at most, so that expired keys need no task of their own."""


def from_url(url: str, options: StoreOptions) -> Store:
    """The store of ``memory://``: always a new and empty one."""
    if options.existing:
        raise ConfigError(options.option, url, "a store that more than one process can see: sqlite or redis")
    return MemoryStore(capacity=options.capacity, max_bytes=options.max_bytes, clock=options.clock)


_RECORD_BYTES: Final = 1024
_HEADER_BYTES: Final = 256
"""Bytes of memory that a record takes, as it is kept, and each header of its response: measured by ``tracemalloc``."""


_held: Final[Callable[[tuple[str, Any, float]], Held]] = partial(cast("Any", tuple.__new__), Held)
"""Makes a :class:`Held` without a call of a function in Python."""


@dataclass(slots=True)
class _Log:
    generation: str
    head: bytes
    data: bytearray
    ended: bool = False


@dataclass(slots=True)
class _Slot:
    token: str
    entry: bytes | Record
    entry_size: int
    leased_until: float
    expires: float
    log: _Log | None = None
    wanted_at: float = -inf

    def size(self) -> int:
        log = self.log
        return self.entry_size + (0 if log is None else len(log.head) + len(log.data))


class MemoryStore:
    """A :class:`~flexmw.idempotency.stores.Store` in this process.

    A full store deletes the oldest key that does not belong to a running request, before the key expires.

    :param capacity: number of keys that are held at most.
    :param max_bytes: bytes of entries and logs that are held at most. The log of a running request is not deleted.
    :param clock: the monotonic time that measures leases and times to live.
    :raises Full: from ``swap`` and ``append``, when every key belongs to a running request.
    """

    def __init__(self, *, capacity: int = 10_000, max_bytes: int = 64 * 1024 * 1024, clock: Clock = SYSTEM) -> None:
        self._capacity, self._max_bytes, self._clock = capacity, max_bytes, clock
        self._slots: OrderedDict[str, _Slot] = OrderedDict()
        self._bytes = 0
        self._lock = fork_safe(Lock())
        self.store_time = clock.monotonic
        """The time that all apps share which share the store."""

    def records(self) -> RecordsInMemory:
        """The same store for the claims of this process, whose records it keeps without encoding them."""
        return RecordsInMemory(self)

    async def load(self, key: str) -> Held | None:
        return _encoded(self.load_now(key))

    async def swap(self, key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float) -> Held | None:
        return _encoded(self.swap_now(key, expected, token, entry, len(entry), lease=lease, ttl=ttl))

    def load_now(self, key: str) -> Held | None:
        """:meth:`load`, with an entry that may be a record."""
        with self._lock:
            now = self._clock.monotonic()
            slot = self._live(key, now)
            return None if slot is None else _held((slot.token, slot.entry, slot.leased_until - now))

    def swap_now(
        self, key: str, expected: str, token: str, entry: bytes | Record, size: int, *, lease: float, ttl: float
    ) -> Held | None:
        """:meth:`swap`, with entries that may be records.

        :param size: bytes that the entry counts as.
        """
        with self._lock:
            slots, now = self._slots, self._clock.monotonic()
            slot = slots.get(key)
            if slot is not None and slot.expires <= now:
                self._forget(key)
                slot = None
            if slot is None:
                if expected:
                    return None
            elif slot.token != expected or expected == token:
                return _held((slot.token, slot.entry, slot.leased_until - now))
            if slots and (
                len(slots) >= self._capacity
                or self._bytes + size > self._max_bytes
                or next(iter(slots.values())).expires <= now
            ):
                self._make_room(size, now, instead_of=key)
            if slot is None:
                slots[key] = _Slot(token, entry, size, now + lease, now + ttl)
            else:
                slots.move_to_end(key)
                self._bytes -= slot.entry_size if slot.log is None else slot.size()
                slot.token, slot.entry, slot.log, slot.wanted_at = token, entry, None, -inf
                slot.entry_size, slot.leased_until, slot.expires = size, now + lease, now + ttl
            self._bytes += size
            return _held((token, entry, lease))

    async def extend(self, key: str, token: str, *, lease: float, ttl: float) -> bool:
        with self._lock:
            now = self._clock.monotonic()
            slot = self._live(key, now)
            if slot is None or slot.token != token:
                return False
            slot.leased_until, slot.expires = now + lease, now + ttl
            return True

    async def drop(self, key: str, token: str) -> bool:
        with self._lock:
            slot = self._live(key, self._clock.monotonic())
            if slot is None or slot.token != token:
                return False
            self._forget(key)
            return True

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
        with self._lock:
            now = self._clock.monotonic()
            slot = self._live(key, now)
            if slot is None or slot.token != token:
                return None
            log = slot.log if slot.log is not None and slot.log.generation == generation else None
            size = 0 if log is None else len(log.data)
            if size == at and (log is None or not log.ended):
                if log is None:
                    self._make_room(slot.entry_size + len(head) + len(data), now, instead_of=key)
                    self._bytes -= slot.size()
                    log = slot.log = _Log(generation, head, bytearray(data), last)
                    self._bytes += slot.size()
                else:
                    self._make_room(slot.size() + len(data), now, instead_of=key)
                    log.data += data
                    log.ended = last
                    self._bytes += len(data)
            elif log is None or size != at + len(data) or (last and not log.ended):
                return None
            slot.leased_until, slot.expires = now + lease, now + ttl
            return Appended(len(log.data), now - slot.wanted_at)

    async def read(self, key: str, generation: str, start: int, limit: int) -> Piece | None:
        with self._lock:
            now = self._clock.monotonic()
            slot = self._live(key, now)
            if slot is None:
                return None
            slot.wanted_at = now
            log = slot.log
            if log is None or log.generation != generation:
                return None
            data = bytes(log.data[start : start + limit])
            return Piece(log.head, data, len(log.data), log.ended, slot.leased_until - now)

    async def scan(self, prefix: str = "") -> AsyncIterator[tuple[str, Held]]:
        with self._lock:
            keys = [key for key in self._slots if key.startswith(prefix)]
        for key in keys:
            held = await self.load(key)
            if held is not None:
                yield key, held

    async def aclose(self) -> None:
        """Does nothing: the keys live as long as the object."""

    def __len__(self) -> int:
        return len(self._slots)

    def _live(self, key: str, now: float) -> _Slot | None:
        slot = self._slots.get(key)
        if slot is not None and slot.expires <= now:
            self._forget(key)
            return None
        return slot

    def _forget(self, key: str) -> None:
        slot = self._slots.pop(key, None)
        if slot is not None:
            self._bytes -= slot.size()

    def _make_room(self, size: int, now: float, *, instead_of: str) -> None:
        """Delete keys until an entry of ``size`` bytes fits.

        The entry replaces that of the key ``instead_of``, whose bytes therefore do not count. The key itself is not
        deleted: a running request keeps its claim when there is no room.
        """
        for _ in range(min(_SWEEP, len(self._slots))):
            key, slot = next(iter(self._slots.items()))
            if slot.expires > now or key == instead_of:
                break
            self._forget(key)
        replaced = self._slots.get(instead_of)
        count, freed = (0, 0) if replaced is None else (1, replaced.size())
        while len(self._slots) - count >= self._capacity or self._bytes - freed + size > self._max_bytes:
            idle = next(
                (key for key, slot in self._slots.items() if key != instead_of and slot.leased_until <= now), None
            )
            if idle is None:
                if len(self._slots) == count:
                    return
                raise Full(f"all {len(self._slots)} keys belong to requests that still run")
            self._forget(idle)


class RecordsInMemory:
    """A :class:`MemoryStore` whose entries are records: nothing is encoded that stays in the process.

    Everybody else reads the same keys from the store itself, which encodes them.
    """

    @staticmethod
    def token() -> str:
        """A token that no other write in this process has. A store in memory belongs to one process, so its tokens need
        no randomness, which the kernel makes at a tenth of the cost of a claim."""
        return f"process-{next(_tokens)}"

    def __init__(self, store: MemoryStore) -> None:
        self._load, self._swap = store.load_now, store.swap_now
        self.extend, self.drop, self.scan, self.aclose = store.extend, store.drop, store.scan, store.aclose
        self.append, self.read, self.store_time = store.append, store.read, store.store_time

    async def load(self, key: str) -> Held | None:
        """:meth:`MemoryStore.load`, with a record for an entry."""
        return self._load(key)

    async def swap(self, key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float) -> Held | None:
        """:meth:`MemoryStore.swap`, with records for entries."""
        kept: Any = entry
        return self._swap(key, expected, token, kept, _size_of(kept), lease=lease, ttl=ttl)


def _encoded(held: Held | None) -> Held | None:
    if held is None:
        return None
    entry = cast("bytes | Record", held.entry)
    return held if isinstance(entry, bytes) else held._replace(entry=entry.encode())


def _size_of(record: Record | bytes) -> int:
    """About the bytes of memory that an entry takes."""
    if isinstance(record, bytes):
        return len(record)
    response, size = record.response, _RECORD_BYTES
    if record.steps:
        size += len(json.dumps(dict(record.steps)))
    return size if response is None else size + _HEADER_BYTES * len(response.headers) + len(response.body or b"")
