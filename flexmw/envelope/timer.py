"""Timer: call a function after a delay, concurrently with the running task, under asyncio and trio.

A task group around each request would do the same, but would cost time in each request that does not fail.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio

__all__ = ["Timer"]


class Timer:
    """Calls ``action`` once after a delay, unless it is stopped before. It starts when it is made.

    :param seconds: the delay.
    """

    __slots__ = ("_action", "_cancel", "_done", "_fired", "_task")

    def __init__(self, seconds: float, action: Callable[[], Awaitable[None]]) -> None:
        self._action = action
        self._fired = False
        self._done = anyio.Event()
        self._task: Any = None
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._cancel: Callable[[], Any] = self._under_trio(seconds)
        else:
            self._cancel = loop.call_later(seconds, self._begin, loop).cancel

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._fired = True
        self._task = loop.create_task(self._run())

    def _under_trio(self, seconds: float) -> Callable[[], Any]:
        import trio

        scope = trio.CancelScope()

        async def wait() -> None:
            with scope:
                await trio.sleep(seconds)
                scope.shield = True
                self._fired = True
                await self._run()

        trio.lowlevel.spawn_system_task(wait)
        return scope.cancel

    async def _run(self) -> None:
        try:
            # An error here means a closed connection, which the server notices by itself.
            with suppress(Exception):
                await self._action()
        finally:
            self._done.set()

    async def stop(self) -> None:
        """Cancel the call; if the call has begun, wait until it has ended."""
        if self._fired:
            await self._done.wait()
        else:
            self._cancel()
