"""Fake clock: it moves only when a test moves it, and records every sleep.

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

    :param now: the first value of the wall clock, in Unix seconds.
    :param monotonic: the first value of the monotonic clock, in seconds. It differs from ``now`` on purpose, so that a
        test notices code that confuses the two.
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
        """Monotonic time in seconds. :meth:`advance` and sleeping move it, forwards only."""
        with self._lock:
            return self._monotonic

    def sleep(self, seconds: float) -> None:
        """Advance by ``seconds`` without waiting.

        :raises ValueError: ``time.sleep`` would refuse the value.
        """
        self._move(seconds, asleep=True)

    async def asleep(self, seconds: float) -> None:
        """Advance by ``seconds`` in a task, after one checkpoint: a cancelled task does not sleep."""
        await checkpoint()
        self._move(seconds, asleep=True)

    def advance(self, seconds: float) -> None:
        """Advance both clocks by ``seconds``, without recording a sleep."""
        self._move(seconds, asleep=False)

    def step(self, seconds: float) -> None:
        """Move the wall clock alone, forwards or (negative) backwards, as a time server does."""
        with self._lock:
            self._now += seconds

    @property
    def slept(self) -> list[float]:
        """The seconds of every sleep so far, in order."""
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
