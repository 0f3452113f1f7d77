"""Retry budget: retries stay a share of the calls, so that clients do not multiply the load of an outage.

A limit on attempts alone does not bound the load: if every call fails, three attempts for each call are three times the
load, at the moment when the server can bear least. A budget (Finagle, tower) counts the calls of all threads and tasks
together. Each call adds a fraction of a retry, each second adds a few more so that clients with few calls can retry
too, and each retry takes one out. If the budget is empty, most calls fail: the caller then gets the failure at once.

Pure but for its lock. The caller hands in the time (monotonic seconds).

>>> budget = Budget()
>>> budget.deposit(0.2, 1.0, lambda: 0.0)
>>> budget.withdraw(1.0, now=0.0), budget.withdraw(1.0, now=0.0)
(True, False)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Final

from flexmw.kit.forked import fork_safe

__all__ = ["Budget"]

_BURST_SECONDS: Final = 10.0
"""The budget holds at most what this number of seconds adds (the window of Finagle)."""

_WHOLE: Final = 1.0 - 1e-9
"""Five deposits of 0.2 add up to slightly less than 1.0 in floating point, and must pay for one retry."""


_MAX_EARNING_CALLS: Final = 1000.0
"""The budget holds at most what this number of calls adds, on top of what the seconds add."""

_MAX_UNCOUNTED: Final = 1000
"""The number of calls that are recorded one by one before they are added up."""


class Budget:
    """A token bucket that is shared by threads and tasks."""

    def __init__(self) -> None:
        self._lock = fork_safe(Lock())
        self._tokens: float | None = None
        self._refilled = 0.0
        self._earned: deque[float] = deque()
        self._bonus = 0.0

    def deposit(self, ratio: float, per_second: float, monotonic: Callable[[], float]) -> None:
        """Count a call: it adds ``ratio`` of a retry, and time adds ``per_second`` retries a second.

        :param monotonic: returns the time. It is called for the first call, and for one in a thousand.
        """
        # Most calls need no retry, so `withdraw` does the sum. Appending needs no lock, and a lock costs more.
        self._earned.append(ratio)
        if self._tokens is None or len(self._earned) > _MAX_UNCOUNTED:
            with self._lock:
                self._refill(per_second, monotonic())

    def withdraw(self, per_second: float, now: float) -> bool:
        """Take one retry out of the budget; False when the budget is empty."""
        with self._lock:
            self._refill(per_second, now)
            if (self._tokens or 0.0) < _WHOLE:
                return False
            self._tokens = (self._tokens or 0.0) - 1.0
            return True

    def _refill(self, per_second: float, now: float) -> None:
        if self._tokens is None:
            self._tokens, self._refilled = max(1.0, per_second), now
        else:
            saved = max(1.0, per_second * _BURST_SECONDS)
            gained = max(0.0, now - self._refilled) * per_second
            earned = 0.0
            for _ in range(len(self._earned)):
                ratio = self._earned.popleft()
                earned += ratio
                self._bonus = _MAX_EARNING_CALLS * ratio
            self._tokens = max(self._tokens, min(self._tokens + gained, saved))
            self._tokens = max(self._tokens, min(self._tokens + earned, saved + self._bonus))
            self._refilled = now
