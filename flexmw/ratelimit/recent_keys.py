"""A cache of digests: the key of a caller who comes again within seconds is looked up and not hashed.

>>> recent = RecentKeys(80 * SECOND)
>>> recent.add(b"Bearer sk-live-1", "digest", 0)
>>> recent.get(b"Bearer sk-live-1", 9 * SECOND), recent.get(b"Bearer sk-live-1", 10 * SECOND)
('digest', None)

A keyed hash costs as much as the decision itself, because between two requests its code leaves the caches of the CPU.
The cache holds credentials in the clear, as the server's own buffers do: few, for seconds, and in this process alone.
"""

from __future__ import annotations

from typing import Final

from flexmw.ratelimit.core import SECOND

__all__ = ["RecentKeys"]

MAX_KEYS: Final = 4096
"""Keys that are remembered at once. With more callers, the cache begins anew."""

MAX_VALUE_BYTES: Final = 512
"""Bytes of the longest header value that is remembered."""

_LIFETIME_US: Final = 10 * SECOND
_SHARE: Final = 8
"""The lifetime is at most this part of a window, so that the guard of new keys keeps a known key."""


class RecentKeys:
    """Digests of keys that the app has accepted, by the value of ``Authorization``. All are forgotten together.

    :param window_us: the window of the guard of new keys, in microseconds.
    :ivar digests: the digests. They count before ``ends_us`` alone.
    :ivar ends_us: the moment by the monotonic clock at which all are forgotten, in microseconds.
    """

    __slots__ = ("_lifetime_us", "digests", "ends_us")

    def __init__(self, window_us: int) -> None:
        self._lifetime_us = min(_LIFETIME_US, window_us // _SHARE)
        self.ends_us = 0
        self.digests: dict[bytes, str] = {}

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
            self.digests.clear()
            self.ends_us = now_us + self._lifetime_us
        if len(value) <= MAX_VALUE_BYTES:
            self.digests[value] = digest

    def clear(self) -> None:
        """Forget all keys: the app has refused one."""
        self.digests.clear()
