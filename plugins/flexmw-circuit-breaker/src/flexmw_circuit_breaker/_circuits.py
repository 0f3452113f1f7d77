"""The state of each origin. Any thread and any task may use it; nothing waits while the lock is held."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from os import getpid
from threading import Lock

from flexmw.kit.forked import fork_safe

__all__ = ["Circuit", "Circuits", "Entry"]

MOST = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """``wait``: seconds for which a call has to stay away; 0 lets it through. ``trying``: it tries a shut circuit."""

    wait: float
    trying: bool = False


class Circuit:
    """One origin: failures in a row, until when it is shut, and whether somebody is trying it."""

    def __init__(self) -> None:
        self._lock = fork_safe(Lock())
        self._failures = 0
        self._until: float | None = None
        self._prober = 0
        """The process whose call tries the circuit; 0 for none. In a forked child, a call of the parent never ends."""

    def enter(self, now: float) -> Entry:
        """Let a call through or keep it away."""
        with self._lock:
            if self._until is None:
                return Entry(0.0)
            if now >= self._until and self._prober != getpid():
                self._prober = getpid()
                return Entry(0.0, trying=True)
            return Entry(max(self._until - now, 0.001))

    def leave(self, entry: Entry, worked: bool | None, now: float, *, failures: int, cooldown: float) -> None:
        """Say how a call that was let through has ended; ``None``: it was given up, and says nothing.

        While the circuit is shut, only the call that tries it decides; those that were under way before do not.
        """
        with self._lock:
            if entry.trying:
                self._prober = 0
            if worked is None or (self._until is not None and not entry.trying):
                return
            self._failures = 0 if worked else self._failures + 1
            if worked:
                self._until = None
            elif entry.trying or self._failures >= failures:
                self._until = now + cooldown


class Circuits:
    """The circuits of the origins that were called last."""

    def __init__(self) -> None:
        self._lock = fork_safe(Lock())
        self._by_origin: OrderedDict[str, Circuit] = OrderedDict()

    def of(self, origin: str) -> Circuit:
        with self._lock:
            circuit = self._by_origin.setdefault(origin, Circuit())
            self._by_origin.move_to_end(origin)
            if len(self._by_origin) > MOST:
                self._by_origin.popitem(last=False)
            return circuit
