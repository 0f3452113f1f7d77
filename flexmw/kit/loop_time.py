"""Time limits that do not count the time for which an event loop is blocked.

A store replies while a callback blocks the event loop, and the loop reads the reply when the callback returns. A limit
by the wall clock would be over by then, and would blame the store. So both limits of this module count a long turn of
the event loop as a short one:

- :class:`LoopTime` is a clock for the limits of many commands. A turn counts as a 42nd of a limit at most.
- :class:`StoreTimeout` limits one block of code. A turn counts as a 32nd of the limit at most, after its first quarter.

So a limit has turns enough to connect and to send some commands one after another, and it ends on any event loop. A
limit that began anew after each long turn, which was tried, never ended where every turn is long.
"""

from __future__ import annotations

import threading
from asyncio import AbstractEventLoop, CancelledError, Task, TimerHandle, current_task, get_running_loop
from collections.abc import Callable
from contextlib import AbstractContextManager
from math import inf
from time import monotonic
from typing import Any, Final
from weakref import ref

import anyio

__all__ = ["REAL_TIME", "LoopTime", "StoreTimeout", "current_time", "limit"]

_SLICES: Final = 64
"""Parts into which a limit is divided to notice a blocked event loop."""

_SHORTEST_SLICE: Final = 0.001
"""Seconds. The timers of an event loop are not more precise."""

_TURNS: Final = 4
"""Turns of the event loop at the end of a limit, in which a reply that has arrived is delivered."""


class LoopTime:
    """The clock of an event loop of asyncio, in seconds. It stands still while the loop is blocked.

    The clock notices a blocked loop by a timer that ticks between :meth:`begin` and :meth:`end`. Outside of these it
    runs like :func:`time.monotonic`.

    :param tick: seconds between two ticks. A tick that is later by more than half of that shows that the event loop was
        blocked.
    """

    __slots__ = ("_blocked", "_latest", "_tick_seconds", "_users")

    def __init__(self, tick: float) -> None:
        self._tick_seconds = tick
        self._blocked = 0.0
        self._latest = inf
        """The time by :func:`time.monotonic` after which a tick is late. The clock stands still from then on."""
        self._users = 0

    def now(self) -> float:
        """Return the time. May be called in any thread."""
        now = monotonic()
        return (now if now < self._latest else self._latest) - self._blocked

    def begin(self) -> None:
        """Begin a limit by this clock. Call :meth:`end` as often."""
        self._users += 1
        if self._latest == inf:
            self._set_timer()

    def end(self) -> None:
        """End a limit by this clock."""
        self._users -= 1

    def _set_timer(self) -> None:
        self._latest = monotonic() + 1.5 * self._tick_seconds
        get_running_loop().call_later(self._tick_seconds, self._tick)

    def _tick(self) -> None:
        self._blocked += max(0.0, monotonic() - self._latest)
        self._latest = inf
        if self._users:
            self._set_timer()


class _RealTime(LoopTime):
    """The clock of blocking code, and of code where no event loop of asyncio runs."""

    __slots__ = ()

    def now(self) -> float:
        return monotonic()

    def begin(self) -> None:
        pass

    def end(self) -> None:
        pass


REAL_TIME: Final[LoopTime] = _RealTime(1.0)


class _PerThread(threading.local):
    """The clocks of the event loop that ran last in a thread, by the seconds of the limits."""

    def __init__(self) -> None:
        self.loop: Callable[[], AbstractEventLoop | None] = _no_loop
        self.times: dict[float, LoopTime] = {}


def _no_loop() -> None:
    """Stands for a weak reference to an event loop."""


_per_thread: Final = _PerThread()


def current_time(seconds: float) -> LoopTime:
    """Return a clock of the running event loop of asyncio, or the real clock where none runs.

    :param seconds: the limits that the clock is for: of a few different lengths, because each length has a clock.
    """
    try:
        loop = get_running_loop()
    except RuntimeError:
        return REAL_TIME
    if _per_thread.loop() is not loop:
        _per_thread.loop, _per_thread.times = ref(loop), {}
    found = _per_thread.times.get(seconds)
    if found is None:
        found = _per_thread.times[seconds] = LoopTime(max(2 * _SHORTEST_SLICE, seconds / _SLICES))
    return found


class StoreTimeout:
    """A context manager that cancels its block after ``seconds`` and raises ``TimeoutError``.

    ``asyncio.timeout`` blames the store for a blocked event loop: its timer runs before the task gets the reply that
    has long arrived. :class:`StoreTimeout` counts the time in slices, and a longer turn of the event loop as two slices
    at most. Then the loop has :data:`_TURNS` turns more to deliver a reply. Code that ends in a quarter of the limit
    costs one timer.

    :param seconds: the limit.
    :param time: a clock that is in use already, to end by that clock in place of the slices: whoever reads the clock
        after the end finds the time over.
    :raises TimeoutError: when the time is over. The cancellation is taken back, so the task can go on.
    """

    __slots__ = (
        "_began",
        "_cancelling",
        "_ends",
        "_fired",
        "_handle",
        "_left",
        "_loop",
        "_most",
        "_seconds",
        "_slice",
        "_task",
        "_time",
        "_turns",
    )

    def __init__(self, seconds: float, time: LoopTime | None = None) -> None:
        self._time = time
        self._seconds = self._left = seconds
        self._slice = max(_SHORTEST_SLICE, seconds / _SLICES)
        self._fired = False
        self._turns = 0

    def __enter__(self) -> None:
        self._loop = get_running_loop()
        self._task: Task[Any] | None = current_task()
        self._cancelling = self._task.cancelling() if self._task else 0
        if self._time is not None:
            self._ends = self._time.now() + self._seconds
        self._wait(max(0.0, self._left / 4))

    def _wait(self, seconds: float) -> None:
        self._began = self._loop.time()
        self._most = seconds + self._slice
        self._handle: TimerHandle | Any = self._loop.call_at(self._began + seconds, self._fire)

    def _fire(self) -> None:
        if self._time is None:
            self._left -= min(self._loop.time() - self._began, self._most)
        else:
            self._left = self._ends - self._time.now()
        if self._left > 0.0:
            self._wait(min(self._slice, self._left))
        else:
            self._end()

    def _end(self) -> None:
        if self._turns < _TURNS:
            self._turns += 1
            self._handle = self._loop.call_soon(self._end)
        else:
            self._fired = True
            assert self._task is not None  # noqa: S101
            self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        self._handle.cancel()
        if (
            self._fired
            and self._task is not None
            and self._task.uncancel() <= self._cancelling
            and kind is CancelledError
        ):
            raise TimeoutError("the store did not answer in time") from error
        if kind is not CancelledError and self._task is not None and self._task.cancelling() > self._cancelling:
            # redis-py may complete a command although its task was cancelled meanwhile. Without this, the cancellation
            # would be lost.
            raise CancelledError from error


def limit(seconds: float, time: LoopTime) -> AbstractContextManager[object]:
    """Limit the time of a block of code on any event loop: by :class:`StoreTimeout` under asyncio.

    :param time: the clock, see :class:`StoreTimeout`.
    :raises TimeoutError: when the time is over.
    """
    try:
        get_running_loop()
    except RuntimeError:
        return anyio.fail_after(seconds)
    return StoreTimeout(seconds, time)
