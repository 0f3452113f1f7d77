"""The circuit breaker in front of a store."""

from __future__ import annotations

from collections.abc import Callable
from os import getpid
from typing import Final

__all__ = ["Breaker"]

_THRESHOLD: Final = 3
_OPEN_SECONDS: Final = 0.5
"""Not longer after further failures: a store that has failed over is to be used again within a second, also when one
attempt still meets the old server. One slow request in this time is a small price."""


class Breaker:
    """Keeps a store that fails from slowing down every request.

    ========= ==================================================== ====================================================
    State     Requests                                             Next state
    ========= ==================================================== ====================================================
    closed    ask the store                                        open after three failures in a row
    open      do not ask the store                                 half-open after 0.5 s
    half-open one asks the store, the others do not                closed when it succeeds, open when it fails
    ========= ==================================================== ====================================================

    In a forked child, a request of the parent is not the one that asks: it never ends there.

    Every :meth:`allows` that returns ``True`` must be followed by one of the four methods after it.

    :param monotonic: the clock in seconds.
    """

    __slots__ = ("_failures", "_monotonic", "_open_until", "_prober")

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._failures = 0
        self._open_until = 0.0
        self._prober = 0  # the process whose request asks the store in the state half-open; 0 for none

    def allows(self) -> bool:
        """Whether the store may be asked now."""
        if self._failures < _THRESHOLD:
            return True
        if self._prober == getpid() or self._monotonic() < self._open_until:
            return False
        self._prober = getpid()
        return True

    def succeeded(self) -> None:
        """The store has answered."""
        self._failures = self._prober = 0

    def failed(self) -> None:
        """The store has raised or timed out."""
        self._failures += 1
        if self._failures >= _THRESHOLD:
            self._open_until = self._monotonic() + _OPEN_SECONDS
        self._prober = 0

    def replied(self) -> None:
        """The store has replied with an error, at once: it is alive and may be asked again."""
        self._prober = 0

    def cancelled(self) -> None:
        """The client went away before the store answered. That says nothing about the store."""
        self._prober = 0

    @property
    def retry_in(self) -> float:
        """Seconds until the store is asked again; 0.0 while the breaker is closed."""
        return max(0.0, self._open_until - self._monotonic()) if self._failures >= _THRESHOLD else 0.0
