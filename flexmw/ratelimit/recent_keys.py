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
from flexmw.kit.exchange import JudgedKey
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
    """Where the state of a caller is, and what the requests of the caller have in common for a while.

    All moments are by the monotonic clock.

    :param judged_key: :attr:`~flexmw.kit.exchange.Exchange.judged_key` of the caller's requests.
    :param shard: the shard of a table that has the state.
    :param states: the young generation of the shard. Once the shard has another one, the place is of no use.
    :param index: where the count is in it, or the key of the state.
    :param window_ends_us: when the open window of the state ends, in microseconds; 0 for an algorithm whose states are
        not words.
    :param ends_us: from when on the place is of no use, in microseconds: the key is forgotten, the window ends or the
        shard turns.
    :ivar fresh_until: when ``reset`` is to be made anew, in seconds, because the wall clock may have been set.
    :ivar reset: the header with the end of the window.
    """

    __slots__ = ("ends_us", "fresh_until", "index", "judged_key", "reset", "shard", "states", "window_ends_us")

    def __init__(
        self,
        judged_key: JudgedKey,
        shard: Shard | CounterShard,
        states: Words | dict[str | int, Any],
        index: Any,
        window_ends_us: int,
        ends_us: int,
    ) -> None:
        self.judged_key, self.shard, self.states, self.index = judged_key, shard, states, index
        self.window_ends_us, self.ends_us = window_ends_us, ends_us
        self.fresh_until = 0.0
        self.reset: Header = b"", b""


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
