"""The state of each origin. Any thread and any task may use it; nothing waits while the lock is held."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

__all__ = ["Circuit", "Circuits"]

MOST = 1000


class Circuit:
    """One origin: failures in a row, until when it is shut, and whether somebody is trying it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._failures = 0
        self._until: float | None = None
        self._trying = False

    def enter(self, now: float) -> float:
        """Seconds for which a call has to stay away; 0 lets it through."""
        with self._lock:
            if self._until is None:
                return 0.0
            if now >= self._until and not self._trying:
                self._trying = True
                return 0.0
            return max(self._until - now, 0.001)

    def leave(self, worked: bool | None, now: float, *, failures: int, cooldown: float) -> None:
        """Say how a call that was let through has ended; ``None``: it was given up, and says nothing."""
        with self._lock:
            trying, self._trying = self._trying, False
            if worked is None:
                return
            if worked:
                self._failures, self._until = 0, None
                return
            self._failures += 1
            if trying or self._failures >= failures:
                self._until = now + cooldown


class Circuits:
    """The circuits of the origins that were called last."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._by_origin: OrderedDict[str, Circuit] = OrderedDict()

    def of(self, origin: str) -> Circuit:
        with self._lock:
            circuit = self._by_origin.setdefault(origin, Circuit())
            self._by_origin.move_to_end(origin)
            if len(self._by_origin) > MOST:
                self._by_origin.popitem(last=False)
            return circuit
