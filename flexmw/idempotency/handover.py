"""Handover: begin a coroutine in the running task's turn, and let a second task finish it where it has to wait.

A message to a client that reads is sent within the turn of the app, at the cost of a call. A message to a client that
does not read has to wait, and then waits in the second task, so that the app goes on. asyncio has this for new tasks
from Python 3.12 on (``eager_start``); here the second task exists already, and sends all messages of a response.

The first step of the coroutine runs under the identity of the second task and in one context for all steps, so that
cancel scopes, timeouts and context variables inside it belong to the task that leaves them
(:mod:`flexmw.idempotency.task_identity`). trio has nothing like it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator, Iterator
from contextvars import copy_context
from types import coroutine
from typing import Any, Final

from flexmw.idempotency.task_identity import set_current_task, swap_current_task

__all__ = ["ENDED", "Handover"]

ENDED: Final = object()
"""What ``run(next, steps, ENDED)`` returns where a coroutine has ended."""


class Handover:
    """Runs coroutines, one at a time, in the name of the task that makes this object.

    :raises RuntimeError: when asyncio runs no task here, as under trio.
    :ivar loop: the event loop.
    :ivar task: the task that makes this object.
    :ivar run: runs a function in the context of all coroutines.
    """

    __slots__ = ("_awaited", "_steps", "loop", "run", "task")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        task = asyncio.current_task(self.loop)
        if task is None:
            raise RuntimeError("asyncio runs no task here")
        self.task = task
        self.run = copy_context().run
        self._steps: Generator[Any, Any, None] | None = None
        self._awaited: Any = None

    @property
    def is_pending(self) -> bool:
        """Whether a coroutine has begun and not ended."""
        return self._steps is not None

    def begin(self, work: Awaitable[None]) -> bool:
        """Run a coroutine up to its first wait, from another task. Returns True if it has ended.

        :param work: the coroutine, or what some servers return in place of one.
        """
        # `next` with a default says without an exception that the coroutine has ended, at a third of the cost.
        steps = work.__await__()
        loop = self.loop
        caller = swap_current_task(loop, self.task)
        try:
            awaited = self.run(next, steps, ENDED)
        finally:
            set_current_task(loop, caller)
        if awaited is ENDED:
            return True
        self.go_on(steps, awaited)
        return False

    def go_on(self, steps: Generator[Any, Any, None], awaited: Any) -> None:
        """Leave the rest of a coroutine to :meth:`finish`.

        :param steps: the coroutine, as its ``__await__`` returns it.
        :param awaited: what it waits for.
        """
        self._steps, self._awaited = steps if hasattr(steps, "send") else _with_send(steps), awaited

    @coroutine
    def finish(self) -> Generator[Any, Any, None]:
        """Run the rest of the coroutine. Only the task that has made this object may await it."""
        steps, run = self._steps, self.run
        if steps is None:
            return
        try:
            while True:
                try:
                    value = yield self._awaited
                except GeneratorExit:
                    steps.close()
                    raise
                except BaseException as error:
                    self._awaited = run(steps.throw, error)
                else:
                    self._awaited = run(steps.send, value)
        except StopIteration:
            pass
        finally:
            self._steps = self._awaited = None


def _with_send(steps: Iterator[Any]) -> Generator[Any, Any, None]:
    """The steps of an awaitable whose iterator is no generator: some servers have such awaitables."""
    yield from steps
