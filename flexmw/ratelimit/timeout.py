"""A time limit for a store that forgives a busy event loop."""

from __future__ import annotations

from asyncio import CancelledError, Task, TimerHandle, current_task, get_running_loop
from typing import Any, Final

from flexmw.errors import ConfigError

__all__ = ["StoreTimeout", "check_event_loop"]

_TURNS: Final = 4
"""Turns of the event loop after the timer, in which a reply that has arrived is delivered."""


class StoreTimeout:
    """A context manager that cancels its block after ``seconds`` and raises ``TimeoutError``.

    ``asyncio.timeout`` blames the store for a busy event loop: when the loop was held up for longer than the limit, the
    timer is run before the reply that has long arrived. So :class:`StoreTimeout` measures how late it is itself:

    1. The timer fires late, by more than a quarter of the limit: the loop was held up. The time starts again.
    2. It fires in time: the loop gets :data:`_TURNS` turns to deliver a reply that is in the socket's buffer. A turn
       that takes more than a quarter of the limit also means a busy loop: the time starts again.
    3. There is still no reply: the task is cancelled.

    :raises TimeoutError: when the time is over. The cancellation is taken back, so the task can go on.
    """

    __slots__ = ("_cancelling", "_fired", "_handle", "_loop", "_seconds", "_task", "_turns", "_when")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._fired = False
        self._turns = 0

    def __enter__(self) -> None:
        self._loop = get_running_loop()
        self._task: Task[Any] | None = current_task()
        self._cancelling = self._task.cancelling() if self._task else 0
        self._start()

    def _start(self) -> None:
        self._turns = 0
        self._when = self._loop.time() + self._seconds
        self._handle: TimerHandle | Any = self._loop.call_at(self._when, self._fire)

    def _fire(self) -> None:
        if self._loop.time() - self._when > self._seconds / 4:
            self._start()
        elif self._turns < _TURNS:
            self._turns += 1
            self._handle = self._loop.call_soon(self._fire_again, self._loop.time())
        else:
            self._fired = True
            assert self._task is not None  # noqa: S101
            self._task.cancel()

    def _fire_again(self, turn_began: float) -> None:
        if self._loop.time() - turn_began > self._seconds / 4:
            self._start()
        else:
            self._when = self._loop.time()
            self._fire()

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


def check_event_loop() -> None:
    """Stores over a network need asyncio.

    :raises ConfigError: under trio.
    """
    try:
        get_running_loop()
    except RuntimeError:
        expected = "memory:// under trio: stores over a network need a server that runs on asyncio"
        raise ConfigError("RateLimit(storage=...)", "<a store over a network>", expected) from None
