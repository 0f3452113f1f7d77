"""Nested task: a task of asyncio that is carried out inside the task that waits for it.

Work that has to go on when the task that began it is cancelled needs a task of its own: ``Task.cancel`` ignores every
shield, and cancel scopes, timeouts and task groups inside the work belong to the task that they were entered in. A
second task costs a turn of the event loop before the work begins and another one after its end. A nested task costs
neither: the waiting task (the host) runs each step of the work under the identity of the nested task, and waits for
what the work waits for. A cancellation of the host does not reach the work, and a cancellation of the nested task, by
``asyncio.timeout`` inside the work for example, does not reach the host.

asyncio documents task implementations of third parties, and the functions that make them visible (Extending asyncio,
task lifetime support). The host waits for an object of its own (:class:`_Wait`) instead of the future that the work
waits for, because ``Task.cancel`` cancels the future that the task waits for.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _register_task, _unregister_task
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from types import FrameType, coroutine
from typing import Any, Final, TextIO

import anyio

from flexmw.idempotency.task_identity import running_task, running_tasks

__all__ = ["NestedTask", "run_nested"]

_BLOCKING: Final = "_asyncio_future_blocking"
"""The attribute by which asyncio recognises a future. It is true exactly while a task begins to wait for it."""


class NestedTask(asyncio.Future[None]):
    """The identity of the work: what ``asyncio.current_task`` returns inside it.

    :param work: the coroutine of the work.
    :param host: the task that carries the work out.
    """

    __slots__ = ("_cancel_requests", "_coroutine", "_fut_waiter", "_host", "_message", "_must_cancel")

    def __init__(
        self, work: Coroutine[Any, Any, None], host: asyncio.Task[Any], loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(loop=loop)
        self._coroutine, self._host = work, host
        self._cancel_requests = 0
        self._message: Any = None
        # anyio reads these two of every task, by the names that they have in asyncio.Task.
        self._must_cancel = False
        self._fut_waiter: Any = None

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the work: :class:`asyncio.CancelledError` is raised where it waits. As ``asyncio.Task.cancel``."""
        if self.done():
            return False
        self._cancel_requests += 1
        if self._fut_waiter is None or not self._fut_waiter.cancel(msg=msg):
            self._must_cancel, self._message = True, msg
        return True

    def cancelling(self) -> int:
        """The requests to cancel that :meth:`uncancel` has not taken back."""
        return self._cancel_requests

    def uncancel(self) -> int:
        """Take one request to cancel back, and return how many are left."""
        self._cancel_requests = max(0, self._cancel_requests - 1)
        if not self._cancel_requests:
            self._must_cancel = False
        return self._cancel_requests

    def get_coro(self) -> Coroutine[Any, Any, None]:
        """The coroutine of the work."""
        return self._coroutine

    def get_name(self) -> str:
        """The name of the host."""
        return self._host.get_name()

    def set_name(self, value: object) -> None:
        """Name the host."""
        self._host.set_name(value)

    def get_context(self) -> Context:
        """The context of the host, in which the work runs (Python 3.12)."""
        return self._host.get_context()  # type: ignore[attr-defined,no-any-return]

    def get_stack(self, *, limit: int | None = None) -> list[FrameType]:
        """The frames of the host, with those of the work."""
        return self._host.get_stack(limit=limit)

    def print_stack(self, *, limit: int | None = None, file: TextIO | None = None) -> None:
        """Print the frames of the host, with those of the work."""
        self._host.print_stack(limit=limit, file=file)

    def wait_for(self, awaited: Any) -> None:
        """Note the future that the work waits for. A cancellation that came while the work ran is passed on to it."""
        self._fut_waiter = awaited
        if self._must_cancel and awaited is not None and awaited.cancel(msg=self._message):
            self._must_cancel = False

    def error_to_raise(self, error: BaseException | None) -> BaseException | None:
        """What is raised in the work when it goes on.

        :param error: what the future has raised that the work waited for.
        """
        self._fut_waiter = None
        if self._must_cancel:
            self._must_cancel = False
            if not isinstance(error, asyncio.CancelledError):
                message, self._message = self._message, None
                return asyncio.CancelledError() if message is None else asyncio.CancelledError(message)
        return error

    def finish(self, error: BaseException | None) -> None:
        """The work has ended.

        A task that was cancelled counts as cancelled, whatever it raises: the host raises that, and the end of the
        event loop logs a crash for each task that it has cancelled and that ends with an error.
        """
        if self.done():
            return
        if error is None:
            self.set_result(None)
        elif self._cancel_requests or isinstance(error, asyncio.CancelledError):
            super().cancel()
        else:
            self.set_exception(error)
            self.exception()  # retrieved: the host raises it


class _Wait:
    """What the host waits for: done when a future of the work is done, and at once when the host is cancelled.

    :param loop: the event loop.
    :ivar is_cancelled: the host was cancelled. The future of the work was not.
    """

    __slots__ = (_BLOCKING, "_awaited", "_callback", "_context", "_loop", "is_cancelled")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.is_cancelled = False

    def on(self, awaited: Any) -> _Wait:
        """This object, for one wait for a future."""
        self._awaited = awaited
        self.is_cancelled = False
        setattr(self, _BLOCKING, True)
        return self

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop. asyncio compares it with that of the task."""
        return self._loop

    def done(self) -> bool:
        """Whether the host is about to go on."""
        return self.is_cancelled or bool(self._awaited.done())

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context | None = None) -> None:
        """Called by asyncio with what lets the host go on."""
        self._callback, self._context = callback, context
        self._awaited.add_done_callback(callback, context=context)

    def remove_done_callback(self, callback: Callable[[Any], object]) -> int:
        """As ``asyncio.Future.remove_done_callback``."""
        count: int = self._awaited.remove_done_callback(callback)
        return count

    def cancel(self, msg: Any = None) -> bool:
        """Called by asyncio when the host is cancelled. Lets the host go on, without a word to the work."""
        if self._awaited.done():
            self.is_cancelled = True
            return False  # the host is about to go on, and asyncio raises the error in it
        if not self.is_cancelled:
            self.is_cancelled = True
            self._awaited.remove_done_callback(self._callback)
            cancelled = self._loop.create_future()
            cancelled.cancel(msg)
            self._loop.call_soon(self._callback, cancelled, context=self._context)
        return True


@coroutine
def run_nested(work: Coroutine[Any, Any, None], on_cancel: Callable[[], None]) -> Generator[Any, Any, None]:
    """Carry out a coroutine in a nested task, to its end, and raise what it raises.

    :param work: the coroutine. It runs in the context of the task that awaits this function.
    :param on_cancel: called when that task is cancelled meanwhile. The task is cancelled after the end of the work,
        unless the work raises an error: an error that nobody gets to see would be in no log.
    :raises RuntimeError: when asyncio runs no task here, as under trio.
    """
    loop = asyncio.get_running_loop()
    host = running_task(loop)
    if host is None:
        work.close()
        raise RuntimeError("asyncio runs no task here")
    task = NestedTask(work, host, loop)
    identity: Any = task
    error: BaseException | None = None
    awaited: Any = None
    wait: _Wait | None = None
    shield: anyio.CancelScope | None = None
    cancelled: BaseException | None = None
    try:
        while True:
            running_tasks[loop] = identity
            try:
                awaited = work.send(None) if error is None else work.throw(error)
            finally:
                running_tasks[loop] = host
            if wait is None:
                wait = _Wait(loop)
                _register_task(identity)
            is_future = awaited is not None and getattr(awaited, _BLOCKING, False)
            if is_future:
                setattr(awaited, _BLOCKING, False)
            task.wait_for(awaited if is_future else None)
            while True:
                error = None
                try:
                    yield wait.on(awaited) if is_future else awaited
                except GeneratorExit:
                    work.close()
                    raise
                except BaseException as raised:
                    if isinstance(raised, asyncio.CancelledError) and (wait.is_cancelled or not is_future):
                        if cancelled is None:
                            cancelled = raised
                            on_cancel()
                            # A cancelled scope of anyio cancels its tasks at each turn of the loop, unless it meets
                            # a shield.
                            shield = anyio.CancelScope(shield=True)
                            shield.__enter__()
                        if is_future:
                            continue
                    else:
                        error = raised
                break
            error = task.error_to_raise(error)
    except StopIteration:
        error = None
    except BaseException as raised:
        error = raised
    finally:
        if shield is not None:
            shield.__exit__(None, None, None)
        if wait is not None:
            _unregister_task(identity)
    task.finish(error)
    if cancelled is not None and not issubclass(type(error), Exception):
        raise cancelled
    if error is not None:
        raise error
