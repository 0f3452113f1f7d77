"""Handover: begin a coroutine in the running task's turn, and let a second task finish it where it has to wait.

A message to a client that reads is sent within the turn of the app, at the cost of a call. A message to a client that
does not read has to wait, and then waits in the second task, so that the app goes on. asyncio has this for new tasks
from Python 3.12 on (``eager_start``); here the second task exists already, and sends all messages of a response.

The first step of the coroutine runs in the name of the second task and in one context for all steps, so that cancel
scopes, timeouts and context variables inside it belong to the task that leaves them. ``asyncio._enter_task`` and
``asyncio._leave_task`` are documented for this (Extending asyncio, task lifetime support). trio has nothing like it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Generator
from contextvars import copy_context
from types import CoroutineType, coroutine
from typing import Any

__all__ = ["Handover"]


class Handover:
    """Runs coroutines, one at a time, in the name of the task that makes this object.

    :raises RuntimeError: when asyncio runs no task here, as under trio.
    """

    __slots__ = ("_awaited", "_context", "_coroutine", "_loop", "_task")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = _running_task(self._loop)
        self._context = copy_context()
        self._coroutine: Coroutine[Any, Any, None] | None = None
        self._awaited: Any = None

    @property
    def is_pending(self) -> bool:
        """Whether a coroutine has begun and not ended."""
        return self._coroutine is not None

    def begin(self, work: Awaitable[None]) -> bool:
        """Run a coroutine up to its first wait, from another task. Returns True if it has ended.

        :param work: the coroutine, or what some servers return in place of one.
        """
        if type(work) is not CoroutineType:
            work = _as_coroutine(work)
        loop = self._loop
        caller = _running_task(loop)
        asyncio._leave_task(loop, caller)
        asyncio._enter_task(loop, self._task)
        try:
            self._awaited = self._context.run(work.send, None)
        except StopIteration:
            return True
        finally:
            asyncio._leave_task(loop, self._task)
            asyncio._enter_task(loop, caller)
        self._coroutine = work
        return False

    @coroutine
    def finish(self) -> Generator[Any, Any, None]:
        """Run the rest of the coroutine. Only the task that has made this object may await it."""
        work, run = self._coroutine, self._context.run
        if work is None:
            return
        try:
            while True:
                try:
                    value = yield self._awaited
                except GeneratorExit:
                    work.close()
                    raise
                except BaseException as error:
                    self._awaited = run(work.throw, error)
                else:
                    self._awaited = run(work.send, value)
        except StopIteration:
            pass
        finally:
            self._coroutine = self._awaited = None


async def _as_coroutine(work: Awaitable[None]) -> None:
    await work


def _running_task(loop: asyncio.AbstractEventLoop) -> asyncio.Task[Any]:
    task = asyncio.current_task(loop)
    if task is None:
        raise RuntimeError("asyncio runs no task here")
    return task
