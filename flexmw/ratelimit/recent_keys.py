"""A cache of digests: the key of a caller who comes again within seconds is looked up and not hashed.

>>> recent = RecentKeys(80 * SECOND)
>>> recent.add(b"Bearer sk-live-1", "digest", 0)
>>> recent.get(b"Bearer sk-live-1", 9 * SECOND), recent.get(b"Bearer sk-live-1", 10 * SECOND)
('digest', None)

A keyed hash costs as much as the decision itself, because between two requests its code leaves the caches of the CPU.
The cache holds credentials in the clear, as the server's own buffers do: few, for seconds, and in this process alone.
"""

from __future__ import annotations

from typing import Any, Final

from flexmw.kit.counters import CounterShard, Words
from flexmw.kit.expiring import Shard
from flexmw.kit.merged_headers import Header
from flexmw.ratelimit.core import SECOND

__all__ = ["MAX_KEYS", "Place", "RecentKeys"]

MAX_KEYS: Final = 4096
"""Keys that are remembered at once. With more callers, the cache begins anew."""

MAX_VALUE_BYTES: Final = 512
"""Bytes of the longest header value that is remembered."""

_LIFETIME_US: Final = 10 * SECOND
_SHARE: Final = 8
"""The lifetime is at most this part of a window, so that the guard of new keys keeps a known key."""


class Place:
    """Where the state of a caller is. It is there as long as ``states`` is the young generation of the shard.

    :param digest: the digest of the caller.
    :param shard: the shard of a table that has the state.
    :param states: the young generation of the shard.
    :param index: the index of the state in it.
    :param until_us: the moment by the monotonic clock at which the key is forgotten or the shard turns, in
        microseconds.
    :ivar reset: when the window ends, in microseconds of the monotonic clock; the moment from which on the wall clock
        is read again; and the header with the end. One tuple, because threads share the place.
    """

    __slots__ = ("digest", "index", "reset", "shard", "states", "until_us")

    def __init__(
        self,
        digest: str,
        shard: Shard | CounterShard,
        states: Words | dict[str | int, Any],
        index: int | str,
        until_us: int,
    ) -> None:
        self.digest, self.shard, self.states, self.index, self.until_us = digest, shard, states, index, until_us
        self.reset: tuple[int, int, Header] = 0, 0, (b"", b"")


class RecentKeys:
    """Digests of keys that the app has accepted, by the value of ``Authorization``. All are forgotten together.

    :param window_us: the window of the guard of new keys, in microseconds.
    :ivar digests: the digests. They count before ``ends_us`` alone.
    :ivar places: for some of the same values, where a store counts the caller. Forgotten together with the digests.
    :ivar ends_us: the moment by the monotonic clock at which all are forgotten, in microseconds.
    """

    __slots__ = ("_lifetime_us", "digests", "ends_us", "places")

    def __init__(self, window_us: int) -> None:
        self._lifetime_us = min(_LIFETIME_US, window_us // _SHARE)
        self.ends_us = 0
        self.digests: dict[bytes, str] = {}
        self.places: dict[bytes, Place] = {}

    def get(self, value: bytes, now_us: int) -> str | None:
        """The digest of the key in a header value, if it is remembered.

        :param now_us: the monotonic clock in microseconds.
        """
        return self.digests.get(value) if now_us < self.ends_us else None

    def add(self, value: bytes, digest: str, now_us: int) -> None:
        """Remember the digest of a key that the app has accepted.

        :param now_us: the monotonic clock in microseconds.
        """
        if now_us >= self.ends_us or len(self.digests) >= MAX_KEYS:
            self.clear()
            self.ends_us = now_us + self._lifetime_us
        if len(value) <= MAX_VALUE_BYTES:
            self.digests[value] = digest

    def clear(self) -> None:
        """Forget all keys: the app has refused one."""
        self.digests.clear()
        self.places.clear()
