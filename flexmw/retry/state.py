"""What the calls of one Retry share: the budget, which origins honour keys, and what was given back as ambiguous.

Pure but for its lock; time is handed in (monotonic seconds).

>>> state = State()
>>> state.allow(place := "POST https://api.example/v1/jobs", ttl=60.0, now=0.0)
>>> state.honours(place, now=59.0), state.honours(place, now=60.0)
(True, False)
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Final

__all__ = ["State"]

_BURST_SECONDS: Final = 10.0
"""How many seconds of the floor rate the budget can save up (Finagle's window)."""

_WHOLE: Final = 1.0 - 1e-9
"""Five fifths make one retry, whatever floating point says."""

_REMEMBERED: Final = 4096
_GIVEN_BACK_SECONDS: Final = 120.0
"""How long an SDK that retries above us may keep trying the same request."""


class State:
    """Shared by threads and tasks; bounded in size."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._tokens: float | None = None
        self._refilled = 0.0
        self._earned = self._bonus = 0.0
        self._honouring: OrderedDict[str, float] = OrderedDict()
        self._given_back: OrderedDict[bytes, tuple[float, BaseException]] = OrderedDict()
        self._warned = False

    def deposit(self, ratio: float, floor: float, now: float) -> None:
        """A call begins: it adds ``ratio`` of a retry to the budget, and time adds ``floor`` a second."""
        with self._lock:
            if self._tokens is None:
                self._refill(floor, now)
            # Most calls need no retry: what they earn is counted in when one does.
            self._earned += ratio
            self._bonus = 1000.0 * ratio

    def withdraw(self, floor: float, now: float) -> bool:
        """Take one retry out of the budget; False when it is spent."""
        with self._lock:
            self._refill(floor, now)
            if (self._tokens or 0.0) < _WHOLE:
                return False
            self._tokens = (self._tokens or 0.0) - 1.0
            return True

    def _refill(self, floor: float, now: float) -> None:
        if self._tokens is None:
            self._tokens, self._refilled = max(1.0, floor), now
        else:
            saved = max(1.0, floor * _BURST_SECONDS)
            gained = max(0.0, now - self._refilled) * floor
            self._tokens = max(self._tokens, min(self._tokens + gained, saved))
            self._tokens = max(self._tokens, min(self._tokens + self._earned, saved + self._bonus))
            self._refilled, self._earned = now, 0.0

    def allow(self, place: str, *, ttl: float, now: float) -> None:
        """A place (method, origin and path) said that it honours keys for ``ttl`` seconds."""
        with self._lock:
            self._honouring[place] = now + ttl
            self._honouring.move_to_end(place)
            while len(self._honouring) > _REMEMBERED:
                self._honouring.popitem(last=False)

    def honours(self, place: str, *, now: float) -> bool:
        """Whether a place is known to honour keys now."""
        with self._lock:
            return self._honouring.get(place, now) > now

    def remember(self, print_: bytes, error: BaseException, now: float) -> None:
        """A request was given back as ambiguous; whoever repeats it gets the same error."""
        with self._lock:
            self._given_back[print_] = (now + _GIVEN_BACK_SECONDS, error)
            self._given_back.move_to_end(print_)
            while len(self._given_back) > _REMEMBERED:
                self._given_back.popitem(last=False)

    def given_back(self, print_: bytes, now: float) -> BaseException | None:
        """The error with which an equal request was given back lately."""
        with self._lock:
            expires, error = self._given_back.get(print_, (0.0, None))
            return error if expires > now else None

    def first_warning(self) -> bool:
        """True once."""
        with self._lock:
            first, self._warned = not self._warned, True
            return first
