"""Side tasks: what runs beside the app of one execution, and ends with it.

Most executions need no side task: one begins where a response is streamed, or where somebody asks whether the client
has left. Under asyncio an execution therefore has no task group, which costs more than the rest of an execution. trio
makes tasks in task groups only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from flexmw.idempotency.eager_task import EagerTask
from flexmw.idempotency.task_identity import running_task

__all__ = ["AsyncioTasks", "SideTasks", "TrioTasks", "current_task"]

_AGAIN_SECONDS: Final = 0.1
"""Seconds after which an app that has caught its cancellation is cancelled again, as a cancel scope does it."""


class SideTasks:
    """The side tasks of one execution. As a context manager: the part of the execution that :meth:`cancel` cancels.

    :ivar have_begun: whether there is any, so that :meth:`end` is needed.
    :ivar is_cut_off: whether :meth:`cut_off` has cancelled the execution.
    """

    __slots__ = ("have_begun", "is_cut_off")

    have_begun: bool
    is_cut_off: bool

    @property
    def has_running_loop(self) -> bool:
        """Whether the event loop runs, so that the execution can go on. Any thread may ask."""
        return True  # trio cancels its tasks before its event loop ends

    def start(
        self, work: Callable[[], Coroutine[Any, Any, None]], on_end: Callable[[], object] | None = None
    ) -> Callable[[], object]:
        """Start a side task. Returns what cancels it.

        :param on_end: called when the task has ended. asyncio runs nothing of a task that is cancelled at once.
        """
        raise NotImplementedError

    def begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a side task that mostly waits until :meth:`end`. It runs up to its first wait before this returns,
        where the event loop has such tasks."""
        self.start(work)

    def cancel(self) -> None:
        """Cancel the app, if it runs. The context ends without an exception then."""
        raise NotImplementedError

    def cut_off(self) -> bool:
        """Cancel the execution itself, if it belongs to the event loop that runs. Returns whether it was cancelled."""
        return False

    async def end(self) -> None:
        """Cancel the side tasks that still run, and wait for them. Raises what one of them has raised."""
        raise NotImplementedError

    def __enter__(self) -> None:
        raise NotImplementedError

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        raise NotImplementedError


class AsyncioTasks(SideTasks):
    """Side tasks of asyncio.

    :param task: the task of the execution.
    """

    __slots__ = ("_eager", "_is_running", "_requests", "_task", "_tasks")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        self._eager: list[EagerTask] | None = None
        self._tasks: list[asyncio.Task[None]] | None = None
        self.have_begun = self.is_cut_off = self._is_running = False
        self._requests = 0

    @property
    def has_running_loop(self) -> bool:
        return self._task.get_loop().is_running()

    def start(
        self, work: Callable[[], Coroutine[Any, Any, None]], on_end: Callable[[], object] | None = None
    ) -> Callable[[], object]:
        self.have_begun = True
        # Not by the factory of the loop: an eager one ran a delivery before its log had a chunk, which was then lost.
        task = asyncio.Task(work(), loop=self._task.get_loop())
        if self._tasks is None:
            self._tasks = [task]
        else:
            self._tasks.append(task)
        if on_end is not None:
            task.add_done_callback(lambda _: on_end())
        return task.cancel

    def begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.have_begun = True
        task = EagerTask(work(), self._task)
        if self._eager is None:
            self._eager = [task]
        else:
            self._eager.append(task)

    def cancel(self) -> None:
        if self._is_running:
            self._requests += 1
            self._task.cancel()
            self._task.get_loop().call_later(_AGAIN_SECONDS, self.cancel)

    def cut_off(self) -> bool:
        self.is_cut_off = self._task.get_loop() is asyncio.get_running_loop() and self._task.cancel()
        return self.is_cut_off

    async def end(self) -> None:
        tasks: list[asyncio.Future[None]] = [task for task in self._eager or () if not task.stop()]
        if self._tasks is not None:
            for task in self._tasks:
                task.cancel()
            tasks += self._tasks
        if tasks:
            await asyncio.wait(tasks)
        for ended in (*(self._eager or ()), *tasks):
            if not ended.cancelled():
                ended.result()
        self._tasks = self._eager = None

    def __enter__(self) -> None:
        self._is_running = True

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._is_running = False
        if not self._requests:
            return None
        requests, self._requests = self._requests, 0
        others = [self._task.uncancel() for _ in range(requests)][-1]
        return not others and isinstance(error, asyncio.CancelledError)


class TrioTasks(SideTasks):
    """Side tasks of trio.

    :param group: the task group around the execution.
    """

    __slots__ = ("_group", "_scope")

    def __init__(self, group: TaskGroup) -> None:
        self._group, self._scope = group, anyio.CancelScope()
        self.have_begun = self.is_cut_off = False

    def start(
        self, work: Callable[[], Coroutine[Any, Any, None]], on_end: Callable[[], object] | None = None
    ) -> Callable[[], object]:
        self.have_begun = True
        scope = anyio.CancelScope()

        async def in_scope() -> None:
            try:
                with scope:
                    await work()
            finally:
                if on_end is not None:
                    on_end()

        self._group.start_soon(in_scope)
        return scope.cancel

    def cancel(self) -> None:
        self._scope.cancel()

    async def end(self) -> None:
        self._group.cancel_scope.cancel()

    def __enter__(self) -> None:
        self._scope.__enter__()

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return self._scope.__exit__(error_type, error, traceback)


def current_task() -> asyncio.Task[Any] | None:
    """The task of asyncio that runs; ``None`` under trio."""
    try:
        return running_task(asyncio.get_running_loop())
    except RuntimeError:
        return None
