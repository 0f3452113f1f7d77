"""A hash table of counters that expire: three whole numbers for each key, in arrays without objects.

>>> table = CounterTable(60)
>>> words, index = table.locate("key", now=0)
>>> words[index], words[index + 1] = 60, 5
>>> table.get("key", now=59), table.get("key", now=200)
((60, 5, 0), None)

A value that is read once in a while is in no cache of the CPU, so a read costs as much as the places in memory that it
touches. A dict touches the entry of an index, an entry, the key and each object of the value. Here a value is beside
its key in one array, and takes a fifth of the memory. (A dict of values packed into one number each was tried: 5 %
faster where the keys are many, 10 % slower where one key is hot. This table: 24 % faster, and 9 % slower.)

Each shard is a table with open addressing and linear probing. An entry is four words of 64 bits: the value, and the
hash of the key. A shard that is two thirds full is copied to an array twice as large, which takes less than a
millisecond because a shard is small.

The hash stands for the key. Python's hash of a text has 64 bits and a secret seed, so of *n* keys some two have one
counter with a probability of about n**2 / 2**65: 3e-8 for a million keys. Nobody outside the process can look for two
such keys, unless ``PYTHONHASHSEED`` is set to a number that others know.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final, TypeAlias

from flexmw.kit.expiring import MAX_ENTRIES, Generations

__all__ = ["MAX_WORD", "CounterShard", "CounterTable", "Words"]

Words: TypeAlias = "array[int]"
"""Entries of :data:`_WORDS` words, one after the other."""

MAX_WORD: Final = 2**64 - 1
"""The largest number of a value. A larger one is written as this one."""

_SHARDS: Final = 1021
"""A prime number: which shard a key is in says nothing about the key's index there."""

_WORDS: Final = 4
_HASH: Final = 3
"""Where the hash is in an entry; 0 in an entry that is free."""

_CAPACITIES: Final = tuple(8 << power for power in range(25))
_MASKS: Final = {capacity: (capacity - 1) * _WORDS for capacity in (1, *_CAPACITIES)}
"""The bit masks that turn a hash into an index, by capacity. The shards share these objects."""

_NO_WORDS: Final[Words] = array("Q", bytes(8 * _WORDS))
"""The array of a generation without entries."""


class CounterShard:
    """One small table in its two generations.

    :ivar young: the entries of the young generation.
    :ivar mask: the bit mask that turns a hash into an index in ``young``.
    :ivar used: the number of entries in ``young``.
    :ivar room: the number of entries at which ``young`` is too full.
    :ivar old: the entries of the old generation.
    :ivar expected: the number of entries that the generation before had: the array begins with room for so many.
    :ivar turns_at: the moment at which the young generation becomes the old one.
    """

    __slots__ = ("expected", "mask", "old", "room", "turns_at", "used", "young")

    def __init__(self) -> None:
        self.young = self.old = _NO_WORDS
        self.expected = self.mask = self.used = self.room = self.turns_at = 0

    @property
    def is_empty(self) -> bool:
        """Whether both generations hold no memory."""
        return self.young is _NO_WORDS and self.old is _NO_WORDS

    def count(self) -> int:
        """The number of keys in both generations; a key that is in both counts once."""
        hashes = {*self.young[_HASH::_WORDS], *self.old[_HASH::_WORDS]}
        return len(hashes - {0})

    def grow(self) -> None:
        """Copy the young generation to an array with room for one more entry."""
        entries, least = self.young, max(self.used + 1, self.expected)
        capacity = next(capacity for capacity in _CAPACITIES if capacity * 2 // 3 >= least)
        self.young, self.mask, self.room = array("Q", bytes(8 * _WORDS * capacity)), _MASKS[capacity], capacity * 2 // 3
        young, mask = self.young, self.mask
        for start, number in enumerate(entries[_HASH::_WORDS]):
            if number:
                index = _find(young, mask, number)
                young[index : index + _WORDS] = entries[start * _WORDS : start * _WORDS + _WORDS]


class CounterTable(Generations[CounterShard]):
    """Values of three whole numbers by key. A value is forgotten between one and three lifetimes after it was last
    written. The first number of a value is not 0.

    :param lifetime: how long a value is kept at least.
    :param max_entries: how many values are kept at most.
    """

    __slots__ = ("_size",)

    def __init__(self, lifetime: int, *, max_entries: int = MAX_ENTRIES, shards: int = _SHARDS) -> None:
        super().__init__(lifetime, tuple(CounterShard() for _ in range(shards)))
        self._size = max(1, max_entries // shards // 2)

    def shard_of(self, key: str) -> CounterShard:
        return self.shards[(hash(key) & MAX_WORD or 1) % self._count]

    def locate(self, key: str, now: int) -> tuple[Words, int]:
        """Where the value of a key is: the array, and the index of the value's first number. A new value is zeros.

        The caller may read and write the three numbers, at once and not later.
        """
        if now >= self.sweeps_at:
            self.sweep(now)
        number = hash(key) & MAX_WORD or 1
        shard = self.shards[number % self._count]
        if now >= shard.turns_at:
            self._turn(shard, now)
        words = shard.young
        index = number & shard.mask
        while (found := words[index + 3]) != number:
            if not found:
                return self._insert(shard, number, now)
            index = (index + 4) & shard.mask
        return words, index

    def get(self, key: str, now: int) -> tuple[int, int, int] | None:
        """The value of a key, if it is known."""
        if now >= self.sweeps_at:
            self.sweep(now)
        number = hash(key) & MAX_WORD or 1
        shard = self.shards[number % self._count]
        if now >= shard.turns_at:
            self._turn(shard, now)
        for words in (shard.young, shard.old):
            index = _find(words, len(words) - _WORDS, number)
            if words[index + _HASH]:
                end, count, previous = words[index : index + _HASH]
                return (end, count, previous) if end else None
        return None

    def put(self, key: str, value: Sequence[int] | None, now: int) -> None:
        """Write a value, or the first numbers of one; ``None`` for no value."""
        words, index = self.locate(key, now)
        for offset, number in enumerate(value or (0, 0, 0)):
            words[index + offset] = min(number, MAX_WORD)

    def count(self) -> int:
        """The number of values in memory, including expired ones whose shard has not been used since."""
        return sum(shard.count() for shard in self.shards)

    def _insert(self, shard: CounterShard, number: int, now: int) -> tuple[Words, int]:
        """Make an entry for a hash that the young generation does not have, with the value of the old generation."""
        if shard.used >= self._size:
            self._turn(shard, now)
        if shard.used >= shard.room:
            shard.grow()
        words = shard.young
        index = _find(words, shard.mask, number)
        words[index + _HASH] = number
        shard.used += 1
        old = shard.old
        place = _find(old, len(old) - _WORDS, number)
        if old[place + _HASH]:
            words[index : index + _HASH] = old[place : place + _HASH]
        return words, index

    def _turn(self, shard: CounterShard, now: int) -> None:
        shard.old = shard.young if now < shard.turns_at + self._lifetime else _NO_WORDS
        shard.young, shard.expected = _NO_WORDS, shard.used
        shard.mask = shard.used = shard.room = 0
        shard.turns_at = now + self._lifetime


def _find(words: Words, mask: int, number: int) -> int:
    """Return the index of the entry with a hash, or of the free entry for it."""
    index = number & mask
    while (found := words[index + _HASH]) != number and found:
        index = (index + _WORDS) & mask
    return index
