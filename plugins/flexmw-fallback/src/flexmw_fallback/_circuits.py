"""Circuit breakers: whether an upstream takes a call now. Pure but for a lock; the caller hands in the time.

::

                 failures in a row, or a Retry-After
       closed ------------------------------------------> cooling
         ^                                                   |
         | the probe succeeds                                | the time is over: one call is the probe
         |                                                   v
         +----------------------------------------------- half-open ---> cooling again (the probe fails)

A result that says nothing about the upstream (``neutral``: a 4xx, a cancelled call, a pool without room) gives a probe
back: the circuit stays half-open, and the next call is the probe.

>>> circuit = Circuit(CircuitOptions(failures=1, window=30.0, cooldown=10.0))
>>> circuit.leave(circuit.enter(0.0), "failure", 0.0)
>>> circuit.enter(9.0) is None, circuit.state(9.0)
(True, CircuitState(wait=1.0, named=False, status=None))
>>> circuit.enter(10.0), circuit.enter(10.0) is None
(Entry(probe=True), True)
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from os import getpid
from threading import Lock
from typing import Final, Literal

from flexmw.kit.forked import fork_safe

__all__ = ["PROBE_SECONDS", "Circuit", "CircuitOptions", "CircuitState", "Circuits", "Entry", "Event"]

Event = Literal["success", "failure", "neutral"]
"""What the end of a call says about its upstream."""

PROBE_SECONDS: Final = 0.25
"""How long a call waits before it looks again at a circuit whose probe is under way."""

_MAX_CIRCUITS: Final = 1000


@dataclass(frozen=True, slots=True)
class CircuitOptions:
    """When a circuit opens, and for how long.

    :param failures: failures in a row that open it.
    :param window: seconds within which these failures happen.
    :param cooldown: seconds for which it stays open, where no response names a time.
    """

    failures: int
    window: float
    cooldown: float


@dataclass(frozen=True, slots=True)
class Entry:
    """A call that a circuit has let through. ``probe``: the call decides for a half-open circuit."""

    probe: bool = False


@dataclass(frozen=True, slots=True)
class CircuitState:
    """What a circuit says to a call that has not entered it.

    :param wait: seconds until the circuit takes a call; 0 where it takes one now.
    :param named: whether a response of the upstream has named this time.
    :param status: the status of the response that has opened the circuit; ``None`` where it was none.
    """

    wait: float
    named: bool
    status: int | None


class Circuit:
    """The state of one upstream and one credential."""

    def __init__(self, options: CircuitOptions) -> None:
        self._options = options
        self._lock = fork_safe(Lock())
        self._failures: deque[float] = deque(maxlen=options.failures)
        self._until: float | None = None
        self._named = False
        self._prober = 0
        """The process whose call is the probe; 0 for none. In a forked child, a call of the parent never ends."""
        self._cooldown = options.cooldown
        """Seconds for which the circuit opens again where its probe fails."""
        self._status: int | None = None

    def state(self, now: float) -> CircuitState:
        """Whether the circuit takes a call now; nothing changes."""
        with self._lock:
            return CircuitState(self._wait(now), self._named, self._status)

    def _wait(self, now: float) -> float:
        if self._until is None:
            return 0.0
        if now >= self._until:
            return PROBE_SECONDS if self._prober == getpid() else 0.0
        return self._until - now

    def enter(self, now: float) -> Entry | None:
        """Let a call through; ``None`` where the circuit takes none now."""
        with self._lock:
            if self._wait(now):
                return None
            probe = self._until is not None
            self._prober = getpid() if probe else 0
            return Entry(probe)

    def leave(
        self,
        entry: Entry,
        event: Event,
        now: float,
        *,
        wait: float | None = None,
        named: bool = True,
        status: int | None = None,
    ) -> None:
        """Report how a call ended. Each entered call leaves once.

        :param wait: seconds that the upstream has asked for; the circuit then opens at once.
        :param named: whether ``wait`` is all that the upstream has asked for, and not a part of it.
        :param status: the status of the response, for those who are refused meanwhile.
        """
        with self._lock:
            if entry.probe:
                self._prober = 0
            if wait is not None:
                self._cooldown = min(self._options.cooldown, wait) if named else self._options.cooldown
                self._open(max(now + wait, self._until or 0.0), named=named, status=status)
            elif event == "failure":
                self._fail(entry, now, status)
            elif event == "success" and (entry.probe or self._until is None):
                self._failures.clear()
                self._until = None

    def _fail(self, entry: Entry, now: float, status: int | None) -> None:
        """While the circuit is open, only the probe decides: the calls that began before say nothing new.

        A probe after a wait that the upstream has named opens the circuit for that wait again, where it is the shorter
        one: a failure after a second of rate limiting is no reason to stay away for half a minute.
        """
        if self._until is not None:
            if entry.probe:
                self._open(now + self._cooldown, named=self._named, status=status)
            return
        self._failures.append(now)
        if len(self._failures) == self._options.failures and self._failures[0] >= now - self._options.window:
            self._cooldown = self._options.cooldown
            self._open(now + self._cooldown, named=False, status=status)

    def _open(self, until: float, *, named: bool, status: int | None) -> None:
        self._until, self._named, self._status = until, named, status
        self._failures.clear()


class Circuits:
    """The circuits that were used last, by upstream and credential."""

    def __init__(self) -> None:
        self._lock = fork_safe(Lock())
        self._by_key: OrderedDict[tuple[str, bytes], Circuit] = OrderedDict()

    def of(self, key: tuple[str, bytes], options: CircuitOptions) -> Circuit:
        """The circuit of an upstream (its URL) and a digest of the credentials that are sent to it."""
        with self._lock:
            circuit = self._by_key.get(key)
            if circuit is None:
                circuit = self._by_key[key] = Circuit(options)
            self._by_key.move_to_end(key)
            if len(self._by_key) > _MAX_CIRCUITS:
                self._by_key.popitem(last=False)
            return circuit
