"""Signals: events that take memory only while somebody waits for them.

An event of asyncio or anyio holds a deque for its waiters, which takes 700 bytes: several of them were a quarter of
what an open stream took.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, Final, NoReturn
from weakref import ref

import anyio

__all__ = ["DONE", "Pause", "Signal"]


class Signal:
    """Is set once, and then stays so.

    :ivar is_set: whether it is set.
    """

    # Defaults of the class: each execution makes such an object, and nobody waits for most of them.
    _event: anyio.Event | None = None
    is_set = False

    def set(self) -> None:
        """Let everybody go on who waits."""
        self.is_set = True
        if self._event is not None:
            self._event.set()

    async def wait(self) -> None:
        """Wait until it is set."""
        if not self.is_set:
            if self._event is None:
                self._event = anyio.Event()
            await self._event.wait()


class Pause:
    """One wait of one task of asyncio.

    :raises RuntimeError: when asyncio runs no loop here, as under trio.
    """

    __slots__ = ("_future",)

    def __init__(self) -> None:
        self._future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def set(self) -> None:
        """Let the task go on."""
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self) -> None:
        """Wait. Used once."""
        await self._future


def _nothing() -> Generator[None]:
    yield from ()


_ENDED: Final = _nothing()
for _ in _ENDED:
    pass


class _Done(Coroutine[Any, Any, None]):
    """A coroutine that has nothing left to do. Any number of tasks may await it, any number of times."""

    __slots__ = ()

    # A function in C that returns an iterator without items: a function in Python takes as long as a coroutine that
    # does nothing, and to go on with a generator that has ended takes less than any other iterator.
    __await__ = ref(_ENDED)  # type: ignore[assignment]

    def send(self, value: Any) -> NoReturn:
        """Raises StopIteration: the coroutine has ended."""
        raise StopIteration

    def throw(self, error: Any, *_: Any) -> NoReturn:
        """Raises the error, which nobody handles."""
        raise error

    def close(self) -> None:
        """Does nothing."""


DONE: Final[Coroutine[Any, Any, None]] = _Done()
"""What a function returns in place of a coroutine where it has done its work already."""
