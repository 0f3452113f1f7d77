"""The clock as a dependency: :data:`SYSTEM` reads the machine's time, and a test passes a fake one.

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
    """The clock that a component uses. All values are in seconds."""

    def now(self) -> float:
        """Wall-clock time in Unix seconds, for headers."""
        ...

    def monotonic(self) -> float:
        """Time that never goes backwards, for deadlines and durations."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block this thread for so many seconds."""
        ...

    async def asleep(self, seconds: float) -> None:
        """Suspend this task for so many seconds, under asyncio or trio."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        # The function is looked up at each call, because flexmw.testing moves the clock of components that exist. The C
        # function in its place took a fifth of the time, and tests saw the counts of earlier tests.
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def asleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    def __repr__(self) -> str:
        return "SYSTEM"


SYSTEM: Final[Clock] = SystemClock()
