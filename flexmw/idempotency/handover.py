"""Handover: begin a step of work in the running task's turn, and let a second task finish it where it has to wait.

A message to a client that reads is sent within the turn of the app, at the cost of a call. A message to a client that
does not read has to wait, and then waits in the second task, so that the app goes on. asyncio has this for new tasks
from Python 3.12 on (``eager_start``); here the second task exists already, and sends all messages of a response.

The work is a generator, because a generator that goes on costs half of a coroutine that begins. It runs under the
identity of the second task and in one context for all steps, so that cancel scopes, timeouts and context variables
inside it belong to the task that leaves them (:mod:`flexmw.idempotency.task_identity`). trio has nothing like it.

>>> from flexmw.idempotency.task_identity import running_tasks
>>> @work_of
... def work():
...     value = yield READY
...     while True:
...         yield from asyncio.sleep(0)
...         value = yield READY if value else REFUSED
>>> async def begin_and_finish():
...     handover = Handover(work())
...     caller, running_tasks[handover.loop] = running_tasks[handover.loop], handover.task
...     awaited = handover.send(True)
...     running_tasks[handover.loop] = caller
...     handover.leave(awaited)
...     await handover.finish()
...     return awaited is READY, handover.is_pending
>>> asyncio.run(begin_and_finish())
(False, False)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import copy_context
from functools import partial
from types import coroutine
from typing import Any, Final, ParamSpec, TypeAlias, cast

__all__ = ["READY", "REFUSED", "Handover", "work_of"]

P = ParamSpec("P")
Work: TypeAlias = Generator[Any, Any, None]

READY: Final = object()
"""What the work yields when a step is over, and it can take the next value."""

REFUSED: Final = object()
"""What the work yields instead where it has done nothing with a value."""


def work_of(function: Callable[P, Work]) -> Callable[P, Work]:
    """Let a generator function go through the steps of coroutines by ``yield from``: a decorator."""
    return cast("Any", coroutine)(function)  # type: ignore[no-any-return]


class Handover:
    """Runs work in the name of the task that makes this object.

    :param work: a generator (:func:`work_of`) that takes values, and yields :data:`READY` or :data:`REFUSED` for each.
        Whatever else it yields is what a task of asyncio waits for.
    :raises RuntimeError: when asyncio runs no task here, as under trio.
    :ivar loop: the event loop.
    :ivar task: the task that makes this object.
    :ivar send: sends a value to the work, in the context of all its steps, and returns what it yields. Another task
        calls it as the :data:`~flexmw.idempotency.task_identity.running_tasks` say that ``task`` runs, while no step
        :attr:`is_pending`.
    """

    __slots__ = ("_awaited", "_run", "_work", "loop", "send", "task")

    def __init__(self, work: Work) -> None:
        self.loop = asyncio.get_running_loop()
        task = asyncio.current_task(self.loop)
        if task is None:
            raise RuntimeError("asyncio runs no task here")
        self.task, self._work = task, work
        self._run = cast("Callable[..., Any]", copy_context().run)
        self.send: Callable[[Any], Any] = partial(self._run, work.send)
        self.send(None)
        self._awaited: Any = READY

    @property
    def is_pending(self) -> bool:
        """Whether a step has begun and is not over."""
        return self._awaited is not READY

    def leave(self, awaited: Any) -> None:
        """Leave the rest of a step to :meth:`finish`.

        :param awaited: what the work waits for.
        """
        self._awaited = awaited

    @coroutine
    def finish(self) -> Generator[Any, Any, None]:
        """Run the rest of the step. Only the task that has made this object may await it."""
        run, work, awaited = self._run, self._work, self._awaited
        try:
            while awaited is not READY and awaited is not REFUSED:
                try:
                    value = yield awaited
                except GeneratorExit:
                    work.close()
                    raise
                except BaseException as error:
                    awaited = run(work.throw, error)
                else:
                    awaited = run(work.send, value)
        finally:
            self._awaited = READY
