"""Time as a thing that can be handed in: the system's clock, or a test's.

>>> from flexmw.kit.clock import SYSTEM
>>> before = SYSTEM.monotonic()
>>> SYSTEM.monotonic() >= before
True
"""

from __future__ import annotations

import time
from typing import Final, Protocol

import anyio

__all__ = ["SYSTEM", "Clock", "SystemClock"]


class Clock(Protocol):
    """What flexmw asks of time. All values are in seconds."""

    def now(self) -> float:
        """Wall-clock time, Unix seconds: for what is written into headers."""
        ...

    def monotonic(self) -> float:
        """Time that never goes backwards: for deadlines and durations."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block this thread."""
        ...

    async def asleep(self, seconds: float) -> None:
        """Suspend this task, under asyncio and trio alike."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def asleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    def __repr__(self) -> str:
        return "SYSTEM"


SYSTEM: Final[Clock] = SystemClock()
