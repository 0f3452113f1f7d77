"""The callers with the most requests, in bounded memory: the Space-Saving algorithm (Metwally and others, 2005).

A table of fixed size counts callers. A caller who is not in a full table takes the place of the caller with the fewest
requests, and inherits that number as a possible error. A caller with more than the ``capacity``-th part of all requests
is in the table for certain. What is reported is the number without the possible error, so no caller is accused of
requests that others have sent.

>>> clock = iter((0.0, 0.0, 0.0, 0.0, 60.0)).__next__
>>> callers = HotCallers(1, clock)
>>> for caller in ("ada", "ada", "bob"):
...     callers.add(caller)
>>> callers.top()
[(2, 'ada')]
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Final

from flexmw.kit.forked import fork_safe

__all__ = ["WINDOW_SECONDS", "HotCallers"]

WINDOW_SECONDS: Final = 60.0
_PLACES_PER_CALLER: Final = 10
_MIN_CAPACITY: Final = 100


class HotCallers:
    """Counts the requests of callers by minutes. Safe for threads.

    :param number: how many callers are reported.
    :param monotonic: the clock in seconds.
    """

    def __init__(self, number: int, monotonic: Callable[[], float]) -> None:
        self._number, self._monotonic = number, monotonic
        self._capacity = max(_MIN_CAPACITY, _PLACES_PER_CALLER * number)
        self._lock = fork_safe(Lock())
        self._counts: dict[str, tuple[int, int]] = {}
        """By caller: the number of requests, and how many of them others may have sent."""
        self._last: dict[str, tuple[int, int]] | None = None
        self._ends = monotonic() + WINDOW_SECONDS

    def add(self, caller: str) -> None:
        """Count one request."""
        with self._lock:
            self._turn()
            counts = self._counts
            found = counts.get(caller)
            if found is not None:
                counts[caller] = found[0] + 1, found[1]
            elif len(counts) < self._capacity:
                counts[caller] = 1, 0
            else:
                rarest = min(counts, key=counts.__getitem__)
                number = counts.pop(rarest)[0]
                counts[caller] = number + 1, number

    def top(self) -> list[tuple[int, str]]:
        """Number and caller, most requests first: of the last whole minute, or of the first one so far."""
        with self._lock:
            self._turn()
            counts = self._counts if self._last is None else self._last
            certain = [(number - error, caller) for caller, (number, error) in counts.items() if number > error]
        return sorted(certain, reverse=True)[: self._number]

    def _turn(self) -> None:
        """Begin a new minute, if the last one is over."""
        now = self._monotonic()
        if now >= self._ends:
            self._last = self._counts if now < self._ends + WINDOW_SECONDS else {}
            self._counts = {}
            self._ends = now + WINDOW_SECONDS
