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

from typing import Any, Final, Generic, Protocol, TypeVar

__all__ = ["MAX_ENTRIES", "ExpiringTable", "Generations", "Shard"]

_SHARDS: Final = 512

_MOST_AT_ONCE: Final = 8
"""Shards that one sweep turns."""

MAX_ENTRIES: Final = 4_194_304
"""The default size. Above it, the entries that were not written for the longest time are forgotten."""

ValueT = TypeVar("ValueT")


class _Turning(Protocol):
    """The part of a shard that :class:`Generations` uses."""

    turns_at: int

    @property
    def is_empty(self) -> bool: ...


ShardT = TypeVar("ShardT", bound=_Turning)


class Shard:
    """One small table in its two generations."""

    __slots__ = ("old", "turns_at", "young")

    def __init__(self) -> None:
        self.young: dict[str | int, Any] = {}
        self.old: dict[str | int, Any] = {}
        self.turns_at = 0

    @property
    def is_empty(self) -> bool:
        """Whether both generations are empty."""
        return not self.young and not self.old


class Generations(Generic[ShardT]):
    """Base class of the tables: shards whose young generation becomes the old one when a lifetime has passed.

    :param lifetime: how long a value is kept at least.
    :ivar shards: the small tables. A key is in the one with the number ``hash(key) % len(shards)``.
    :ivar sweeps_at: the moment at which the next unused shard is emptied.
    """

    __slots__ = ("_count", "_lifetime", "_next", "shards", "sweeps_at")

    def __init__(self, lifetime: int, shards: tuple[ShardT, ...]) -> None:
        self._lifetime = lifetime
        self._count = len(shards)
        self.shards = shards
        self._next = self.sweeps_at = 0

    def shard_of(self, key: str) -> ShardT:
        """The shard of a key."""
        return self.shards[hash(key) % self._count]

    def sweep(self, now: int) -> None:
        """Turn the next shards, so that unused shards are emptied too: every shard once in a lifetime.

        Between two requests many shards may become due. A sweep turns some of them and is late for the others.
        """
        interval = self._lifetime // self._count or 1
        due = min((now - self.sweeps_at) // interval + 1, _MOST_AT_ONCE)
        self.sweeps_at = now + interval
        for _ in range(due):
            self._next = (self._next + 1) % self._count
            shard = self.shards[self._next]
            if now >= shard.turns_at and not shard.is_empty:
                self._turn(shard, now)

    def _turn(self, shard: ShardT, now: int) -> None:
        """Make the young generation of a shard the old one."""
        raise NotImplementedError


class ExpiringTable(Generations[Shard], Generic[ValueT]):
    """Values by key. A value is forgotten between one and three lifetimes after it was last written.

    :param lifetime: how long a value is kept at least.
    :param max_entries: how many values are kept at most.
    :param shards: into how many small tables the values are divided.
    """

    __slots__ = ("_size",)

    def __init__(self, lifetime: int, *, max_entries: int = MAX_ENTRIES, shards: int = _SHARDS) -> None:
        super().__init__(lifetime, tuple(Shard() for _ in range(shards)))
        self._size = max(1, max_entries // shards // 2)

    def shard(self, key: str | int, now: int) -> Shard:
        """The shard of a key. The caller may read both generations and write to ``young``, at once and not later."""
        if now >= self.sweeps_at:
            self.sweep(now)
        shard = self.shards[hash(key) % self._count]
        if now >= shard.turns_at or len(shard.young) >= self._size:
            self._turn(shard, now)
        return shard

    def locate(self, key: str, now: int) -> tuple[dict[str | int, Any], str]:
        """Where the value of a key is: the young generation of its shard, and the key. There is perhaps no value.

        The caller may read and write the value, at once and not later.
        """
        shard = self.shard(key, now)
        if shard.old and (value := shard.old.pop(key, None)) is not None:
            shard.young.setdefault(key, value)
        return shard.young, key

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
