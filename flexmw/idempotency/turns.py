"""Turns: the operations of one claim run one after another, and one that meets no other does not wait.

A lock of anyio yields to the event loop even where it is free.
"""

from __future__ import annotations

from collections import deque
from types import TracebackType

import anyio

__all__ = ["Turns"]


class Turns:
    """A lock for the tasks of one event loop, which get it in the order in which they ask for it."""

    __slots__ = ("_is_taken", "_waiting")

    def __init__(self) -> None:
        self._is_taken = False
        self._waiting: deque[anyio.Event] | None = None

    async def __aenter__(self) -> None:
        if not self._is_taken:
            self._is_taken = True
            return
        if self._waiting is None:
            self._waiting = deque()
        turn = anyio.Event()
        self._waiting.append(turn)
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():
                self._pass_on()
            else:
                self._waiting.remove(turn)
            raise

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        if self._waiting:
            self._waiting.popleft().set()
        else:
            self._is_taken = False
