"""A clock that only a test moves: waiting takes no time and is written down.

>>> from flexmw.testing import FakeClock
>>> clock = FakeClock(now=1_800_000_000.0)
>>> clock.sleep(34.0)
>>> clock.now(), clock.slept
(1800000034.0, [34.0])
>>> clock.advance(0.5)
>>> clock.now()
1800000034.5
"""

from __future__ import annotations

import math
from threading import Lock

from anyio.lowlevel import checkpoint

__all__ = ["FakeClock"]


class FakeClock:
    """A :class:`flexmw.kit.clock.Clock` for tests. All values are in seconds; any thread may use it.

    :param now: the wall clock's first value, Unix seconds.
    :param monotonic: the monotonic clock's first value. The two differ on purpose: code that mixes them up is found.
    """

    def __init__(self, now: float = 1_800_000_000.0, *, monotonic: float = 1_000.0) -> None:
        self._lock = Lock()
        self._now = now
        self._monotonic = monotonic
        self._slept: list[float] = []

    def now(self) -> float:
        """Wall-clock time, Unix seconds."""
        with self._lock:
            return self._now

    def monotonic(self) -> float:
        """Time that only :meth:`advance` and sleeping move, and only forwards."""
        with self._lock:
            return self._monotonic

    def sleep(self, seconds: float) -> None:
        """Advance by ``seconds`` at once. Raises ``ValueError`` for a value that ``time.sleep`` would refuse."""
        self._move(seconds, asleep=True)

    async def asleep(self, seconds: float) -> None:
        """The same for a task. Passes one checkpoint first: a cancelled task is cancelled, and has not slept."""
        await checkpoint()
        self._move(seconds, asleep=True)

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass on both clocks without anyone sleeping."""
        self._move(seconds, asleep=False)

    def step(self, seconds: float) -> None:
        """Set the wall clock alone forwards, or backwards when negative, as a time server does."""
        with self._lock:
            self._now += seconds

    @property
    def slept(self) -> list[float]:
        """Every sleep so far, in order."""
        with self._lock:
            return list(self._slept)

    def __repr__(self) -> str:
        return f"FakeClock(now={self.now()!r}, monotonic={self.monotonic()!r})"

    def _move(self, seconds: float, *, asleep: bool) -> None:
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"seconds must be finite and 0 or more, not {seconds!r}")
        with self._lock:
            self._now += seconds
            self._monotonic += seconds
            if asleep:
                self._slept.append(seconds)
