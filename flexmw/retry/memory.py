"""What the calls of one Retry remember: which places honour idempotency keys, and which calls were lost.

Pure but for its lock. The caller hands in the time (monotonic seconds).

>>> memory = Memory()
>>> memory.trust(place := "POST https://api.example/v1/jobs", ttl=60.0, now=0.0)
>>> memory.honours(place, now=59.0), memory.honours(place, now=60.0)
(True, False)
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Final

__all__ = ["Memory"]

_MAX_ENTRIES: Final = 4096
_LOST_CALL_SECONDS: Final = 120.0
"""How long an SDK that retries above Retry may repeat the same request."""


class Memory:
    """Shared by threads and tasks; bounded in entries."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._trusted: OrderedDict[str, float] = OrderedDict()
        self._lost: OrderedDict[bytes, tuple[float, BaseException]] = OrderedDict()
        self._warned = False

    def trust(self, place: str, *, ttl: float, now: float) -> None:
        """Record that a place (method, origin and path) announced that it honours keys for ``ttl`` seconds."""
        with self._lock:
            self._trusted[place] = now + ttl
            self._trusted.move_to_end(place)
            while len(self._trusted) > _MAX_ENTRIES:
                self._trusted.popitem(last=False)

    def honours(self, place: str, *, now: float) -> bool:
        """Whether a place is known to honour keys now."""
        with self._lock:
            return self._trusted.get(place, now) > now

    def remember_lost(self, fingerprint: bytes, error: BaseException, now: float) -> None:
        """Record that a request was given back as ambiguous: its repetition gets the same error."""
        with self._lock:
            self._lost[fingerprint] = (now + _LOST_CALL_SECONDS, error)
            self._lost.move_to_end(fingerprint)
            while len(self._lost) > _MAX_ENTRIES:
                self._lost.popitem(last=False)

    def find_lost(self, fingerprint: bytes, now: float) -> BaseException | None:
        """The error of an equal request that was given back as ambiguous within the last two minutes."""
        with self._lock:
            expires, error = self._lost.get(fingerprint, (0.0, None))
            return error if expires > now else None

    def first_warning(self) -> bool:
        """True at the first call, False from then on."""
        with self._lock:
            first, self._warned = not self._warned, True
            return first
