"""Handover: begin a step of work in the running task's turn, and let a second task finish it where it has to wait.

A message to a client that reads is sent within the turn of the app, at the cost of a call. A message to a client that
does not read has to wait, and then waits in the second task, so that the app goes on. asyncio has this for new tasks
from Python 3.12 on (``eager_start``); here the second task exists already, and sends all messages of a response.

The work is a generator, because a generator that goes on costs half of a coroutine that begins. It runs under the
identity of the second task and in one context for all steps, so that cancel scopes, timeouts and context variables
inside it belong to the task that leaves them (:mod:`flexmw.idempotency.task_identity`). The work takes the identity and
gives it back, because names that are local to the work cost half of what attributes cost. trio has nothing like it.

>>> @work_of
... def work(handover):
...     tasks, loop = running_tasks, handover.loop
...     value = yield READY
...     while True:
...         handover.caller, tasks[loop] = tasks[loop], handover.task
...         yield from asyncio.sleep(0)
...         tasks[loop] = handover.caller
...         value = yield READY if value else REFUSED
>>> async def begin_and_finish():
...     handover = Handover(work)
...     awaited = handover.run(handover.send, True)
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
from types import coroutine
from typing import Any, Final, ParamSpec, TypeAlias, cast

from flexmw.idempotency.task_identity import running_tasks

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
    """Runs work under the identity of the task that makes this object.

    :param work: a generator function (:func:`work_of`) of this object. The generator takes values, and yields
        :data:`READY` or :data:`REFUSED` for each. Whatever else it yields is what a task of asyncio waits for. Before
        each step it takes the identity of :attr:`task` in the
        :data:`~flexmw.idempotency.task_identity.running_tasks`; after the step it gives the identity to
        :attr:`caller`, also where the step has raised.
    :raises RuntimeError: when asyncio runs no task here, as under trio.
    :ivar loop: the event loop.
    :ivar task: the task that makes this object.
    :ivar caller: the task in whose turn the step runs, as the work has noted it before the step.
    :ivar run: calls a function in the context of all steps: ``run(send, value)``.
    :ivar send: sends a value to the work, and returns what the work yields. Any task may call it in :attr:`run` while
        no step :attr:`is_pending`.
    """

    __slots__ = ("_awaited", "_work", "caller", "loop", "run", "send", "task")

    def __init__(self, work: Callable[[Handover], Work]) -> None:
        self.loop = asyncio.get_running_loop()
        task = asyncio.current_task(self.loop)
        if task is None:
            raise RuntimeError("asyncio runs no task here")
        self.task = self.caller = task
        self._work = work(self)
        self.run = cast("Callable[..., Any]", copy_context().run)
        self.send: Callable[[Any], Any] = self._work.send
        self.run(self.send, None)
        self._awaited: Any = READY

    @property
    def is_pending(self) -> bool:
        """Whether a step has begun and is not over."""
        return self._awaited is not READY

    def leave(self, awaited: Any) -> None:
        """Leave the rest of a step to :meth:`finish`, and give the identity back to the caller.

        :param awaited: what the work waits for.
        """
        running_tasks[self.loop] = self.caller
        self.caller, self._awaited = self.task, awaited

    def close(self) -> None:
        """End the work, which refers to this object, as this object does to the work: a reference cycle.

        A step that has begun is left alone. It is another component's code, and may have to end in its own context.
        """
        if not self.is_pending:
            self._work.close()

    @coroutine
    def finish(self) -> Generator[Any, Any, None]:
        """Run the rest of the step. Only the task that has made this object may await it."""
        run, work, awaited = self.run, self._work, self._awaited
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
