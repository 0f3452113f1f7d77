"""Turns: a lock that runs the operations of one claim one after another. An operation without competitors does not
wait.

A lock of anyio yields to the event loop even where it is free.
"""

from __future__ import annotations

from collections import deque
from types import TracebackType

import anyio

__all__ = ["Turns"]


class Turns:
    """A lock for the tasks of one event loop. Tasks get the lock in the order of their requests."""

    # Defaults of the class: each claim makes an object, and most of them never wait.
    _is_taken = False
    _waiting: deque[anyio.Event] | None = None

    def take(self) -> bool:
        """Take the lock if no task holds it. If this returns False, call :meth:`wait`: the task that holds the lock
        passes it on."""
        if self._is_taken:
            return False
        self._is_taken = True
        return True

    async def wait(self) -> None:
        """Wait for the turn that others have."""
        if self._waiting is None:
            self._waiting = deque()
        turn = anyio.Event()
        self._waiting.append(turn)
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():
                self.pass_on()
            else:
                self._waiting.remove(turn)
            raise

    async def __aenter__(self) -> None:
        if not self.take():
            await self.wait()

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.pass_on()

    def pass_on(self) -> None:
        """Give the turn to the one that has waited for longest."""
        if self._waiting:
            self._waiting.popleft().set()
        else:
            self._is_taken = False
