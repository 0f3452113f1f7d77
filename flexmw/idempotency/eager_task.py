"""Eager task: a task of asyncio that begins at once, and that mostly ends without a turn of the event loop.

A request that is to notice that its client leaves waits for ``receive`` beside the app. Nearly always the client stays,
so that the wait is begun and given up again. A task of asyncio costs two turns of the event loop for that, and as much
as a write to the store. An eager task runs up to its first wait where it is made, as tasks do with the ``eager_start``
of Python 3.12, and a cancellation is carried out where :meth:`EagerTask.stop` is called. Between the two it is a
callback of the future that it waits for.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task, _register_task, _unregister_task
from collections.abc import Coroutine
from contextvars import copy_context
from typing import Any, Final, cast

from flexmw.idempotency.nested_task import NestedTask
from flexmw.idempotency.task_identity import running_tasks

__all__ = ["EagerTask"]

_BLOCKING: Final = "_asyncio_future_blocking"


class EagerTask(NestedTask):
    """A task that has begun. Only tasks of its event loop may make one and stop it.

    :param work: the coroutine of the task. It runs in a copy of the context of whoever makes the task.
    :param host: the task of the request, which gives the task its name.
    """

    __slots__ = ("_context", "_running_loop")

    def __init__(self, work: Coroutine[Any, Any, None], host: asyncio.Task[Any]) -> None:
        loop = self._running_loop = host.get_loop()
        super().__init__(work, host, loop)
        self._context = copy_context()
        self._step_inside_a_task(None)
        if not self.done():
            _register_task(cast("asyncio.Task[Any]", self))

    def stop(self) -> bool:
        """Cancel the task. Returns whether it has ended; if not, it ends in a later turn of the event loop."""
        if self.done():
            return True
        awaited = self._fut_waiter
        if awaited is None:
            self.cancel()
            return False
        # The future of a server is done as soon as it is cancelled. A task that is awaited goes on for a while.
        awaited.remove_done_callback(self._go_on)
        self.cancel()
        if awaited.done():
            self._step_inside_a_task(_error_of(awaited))
        else:
            awaited.add_done_callback(self._go_on, context=self._context)
        return self.done()

    def finish(self, error: BaseException | None) -> None:
        _unregister_task(cast("asyncio.Task[Any]", self))
        super().finish(error)

    def _step_inside_a_task(self, error: BaseException | None) -> None:
        """Run the work up to its next wait. The task that calls this waits for nothing meanwhile.

        :param error: raised in the work, where it waits.
        """
        loop = self._running_loop
        caller, running_tasks[loop] = running_tasks[loop], self
        try:
            self._context.run(self._step, error)
        finally:
            running_tasks[loop] = caller
            # The traceback of the error holds this frame, and that of the step: a cycle with all that the work holds.
            del error

    def _go_on(self, awaited: Any) -> None:
        """The future is done that the work waits for. Called by the event loop, in the context of the task.

        :param awaited: the future; ``None`` after a bare ``yield``.
        """
        if self.done() or awaited is not self._fut_waiter:  # :meth:`stop` was faster
            return
        identity = cast("asyncio.Task[Any]", self)
        _enter_task(self._running_loop, identity)
        try:
            self._step(_error_of(awaited))
        finally:
            _leave_task(self._running_loop, identity)

    def _step(self, error: BaseException | None) -> None:
        work, error = self._coroutine, self.error_to_raise(error)
        try:
            awaited: Any = work.send(None) if error is None else work.throw(error)
        except StopIteration:
            self.finish(None)
        except (KeyboardInterrupt, SystemExit) as raised:
            self.finish(raised)
            raise
        except BaseException as raised:
            self.finish(raised)
        else:
            if awaited is None:
                self.wait_for(None)
                self._running_loop.call_soon(self._go_on, None, context=self._context)
            else:
                setattr(awaited, _BLOCKING, False)
                awaited.add_done_callback(self._go_on, context=self._context)
                self.wait_for(awaited)
        finally:
            del error


def _error_of(awaited: Any) -> BaseException | None:
    """What the work is to raise where it has waited for a future that is done; ``None`` after a bare ``yield``.

    As asyncio's tasks do, the error is thrown into the work. The futures of asyncio would raise it anyway, those of
    granian do not: a wait that was cancelled began again, in each turn of the event loop.
    """
    if awaited is None:
        return None
    try:
        awaited.result()
    except BaseException as error:
        return error
    return None
