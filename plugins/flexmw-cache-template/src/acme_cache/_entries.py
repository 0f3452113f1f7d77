"""The responses that are kept. Any thread and any task may use them; nothing waits while the lock is held."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

from flexmw.kit.forked import fork_safe

__all__ = ["Entries", "Entry", "Key"]

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One response.

    :param headers: its headers, in order.
    :param body: its body in bytes, as it arrived.
    :param age: how old it was when it arrived, in seconds.
    :param stored: when it was stored, in monotonic seconds.
    :param until: when its life ends, in monotonic seconds.
    """

    headers: tuple[tuple[str, str], ...]
    body: bytes
    age: int
    stored: float
    until: float


class Entries:
    """The entries by key, in the order of their last use."""

    def __init__(self) -> None:
        self._lock = fork_safe(Lock())
        self._by_key: OrderedDict[Key, Entry] = OrderedDict()

    def get(self, key: Key, now: float) -> Entry | None:
        """Return a response that is still alive."""
        with self._lock:
            entry = self._by_key.get(key)
            if entry is None:
                return None
            if entry.until <= now:
                del self._by_key[key]
                return None
            self._by_key.move_to_end(key)
            return entry

    def put(self, key: Key, entry: Entry, max_entries: int) -> None:
        """Keep a response, and drop the one that was used longest ago if there are too many."""
        with self._lock:
            self._by_key[key] = entry
            self._by_key.move_to_end(key)
            if len(self._by_key) > max_entries:
                self._by_key.popitem(last=False)
