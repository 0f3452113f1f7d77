"""A table whose entries expire, in bounded memory and without a scan, a thread or a timer.

>>> table: ExpiringTable[str] = ExpiringTable(60)
>>> table.put("key", "value", now=0)
>>> table.get("key", now=59), table.get("key", now=200)
('value', None)

The entries are spread over many small shards. A shard has two generations: an entry that is written is put into the
young one, and when a lifetime has passed the young generation becomes the old one and the old one is discarded. So no
operation costs more than one small shard, neither when the table grows nor when its entries expire. ``limits``' own
memory storage scans every key instead: 12 ms for each hit at 100,000 keys.

Moments and lifetimes are whole numbers in a unit of the caller's choice. A table is not thread-safe.
"""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar

__all__ = ["MAX_ENTRIES", "ExpiringTable", "Shard"]

_SHARDS: Final = 512
MAX_ENTRIES: Final = 4_194_304
"""The default size. Above it, the entries that were not written for the longest time are forgotten."""

ValueT = TypeVar("ValueT")


class Shard:
    """One small table in its two generations."""

    __slots__ = ("old", "turns_at", "young")

    def __init__(self) -> None:
        self.young: dict[str | int, Any] = {}
        self.old: dict[str | int, Any] = {}
        self.turns_at = 0


class ExpiringTable(Generic[ValueT]):
    """Values by key. A value is forgotten between one and three lifetimes after it was last written.

    :param lifetime: how long a value is kept at least.
    :param max_entries: how many values are kept at most.
    :param shards: into how many small tables the values are divided.
    :ivar shards: the small tables. A key is in the one with the number ``hash(key) % len(shards)``.
    :ivar size: values that one generation of a shard has at most.
    :ivar sweeps_at: the moment at which the next unused shard is emptied.

    What runs for every request does the work of :meth:`shard` itself, and calls it where one of its conditions holds.
    """

    __slots__ = ("_count", "_lifetime", "_next", "shards", "size", "sweeps_at")

    def __init__(self, lifetime: int, *, max_entries: int = MAX_ENTRIES, shards: int = _SHARDS) -> None:
        self._lifetime = lifetime
        self._count = shards
        self.shards = tuple(Shard() for _ in range(shards))
        self.size = max(1, max_entries // shards // 2)
        self._next = self.sweeps_at = 0

    def shard(self, key: str | int, now: int) -> Shard:
        """The shard of a key. The caller may read both generations and write to ``young``, at once and not later."""
        if now >= self.sweeps_at:
            self._sweep(now)
        shard = self.shards[hash(key) % self._count]
        if now >= shard.turns_at or len(shard.young) >= self.size:
            self._turn(shard, now)
        return shard

    def get(self, key: str, now: int) -> ValueT | None:
        """The value of a key, if it is known."""
        shard = self.shard(key, now)
        value: ValueT | None = shard.young.get(key)
        return shard.old.get(key) if value is None else value

    def touch(self, key: str, now: int) -> bool:
        """Whether the key is known; if it is, its lifetime begins again."""
        shard = self.shards[hash(key) % self._count]
        if now < shard.turns_at and key in shard.young:
            return True
        value = self.shard(key, now).old.pop(key, None)
        if value is None:
            return False
        shard.young[key] = value
        return True

    def put(self, key: str, value: ValueT, now: int) -> None:
        """Write a value."""
        shard = self.shard(key, now)
        shard.young[key] = value
        if shard.old:
            shard.old.pop(key, None)

    def discard(self, key: str) -> None:
        """Forget a key now."""
        shard = self.shards[hash(key) % self._count]
        shard.young.pop(key, None)
        shard.old.pop(key, None)

    def count(self) -> int:
        """The number of values in memory, including expired ones whose shard has not been used since."""
        return sum(len(shard.young) + len(shard.old) for shard in self.shards)

    def _turn(self, shard: Shard, now: int) -> None:
        shard.old = shard.young if now < shard.turns_at + self._lifetime else {}
        shard.young = {}
        shard.turns_at = now + self._lifetime

    def _sweep(self, now: int) -> None:
        """Turn one more shard, so that unused shards are emptied too: every shard once in a lifetime."""
        self.sweeps_at = now + self._lifetime // self._count
        self._next = (self._next + 1) % self._count
        shard = self.shards[self._next]
        if now >= shard.turns_at and (shard.young or shard.old):
            self._turn(shard, now)
