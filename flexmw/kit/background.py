"""Background task: a task of the running event loop that no request waits for, under asyncio and trio.

By default the task runs in a context of its own: that of the request that begins it has spans, deadlines and a time for
the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from anyio.lowlevel import checkpoint

from flexmw.kit.clock import Clock

__all__ = ["BackgroundTask", "drain", "start_in_background"]

_Work = TypeVar("_Work")

_DRAIN_PAUSE: Final = 0.05
"""Seconds between two looks at what is left."""

_LAST_TURNS: Final = 20
"""Turns of the event loop in which cancelled tasks end."""


_tasks: Final[set[asyncio.Task[None]]] = set()
"""The tasks of asyncio that are not over. An event loop keeps no task."""


class BackgroundTask(NamedTuple):
    """A task that was started.

    :param cancel: cancels the task. Any thread may call it.
    :param is_lost: whether the event loop was closed, so that the task never goes on.
    :param is_here: whether the task belongs to the event loop that runs in this thread.
    """

    cancel: Callable[[], None]
    is_lost: Callable[[], bool]
    is_here: Callable[[], bool]


def start_in_background(
    work: Callable[[], Coroutine[Any, Any, None]], context: Context | None = None, *, reports_loss: bool = False
) -> BackgroundTask:
    """Start a task. Under trio it must not raise an exception: trio ends the whole program then.

    :param work: makes the coroutine of the task.
    :param context: the context of the task; ``None`` for an empty one.
    :param reports_loss: the caller reports a task whose event loop was closed, so that asyncio need not log that it was
        destroyed.
    """
    if context is None:
        context = Context()
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _start_in_trio(work, context)
    _tasks.difference_update([task for task in tuple(_tasks) if task.get_loop().is_closed()])
    task = loop.create_task(work(), context=context)
    if reports_loss:
        with suppress(AttributeError):  # a private attribute of asyncio's own tasks
            task._log_destroy_pending = False  # type: ignore[attr-defined]
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    cancel = partial(_from_any_thread, loop.call_soon_threadsafe, task.cancel)
    return BackgroundTask(cancel, loop.is_closed, partial(_is_running, loop))


async def drain(
    left: Callable[[], Collection[_Work]], cancel: Callable[[_Work], object], *, seconds: float, clock: Clock
) -> None:
    """Wait until no work is left, and cancel what is left after a time.

    :param left: the work that is not done. It is called again and again.
    :param cancel: cancels one piece of work.
    :param seconds: the longest wait, by the monotonic time of the clock.
    """
    ends = clock.monotonic() + seconds
    while left() and clock.monotonic() < ends:
        await clock.asleep(_DRAIN_PAUSE)
    for work in tuple(left()):
        cancel(work)
    for _ in range(_LAST_TURNS):
        if not left():
            break
        await checkpoint()


def _start_in_trio(work: Callable[[], Coroutine[Any, Any, None]], context: Context) -> BackgroundTask:
    import trio

    scope = trio.CancelScope()

    async def in_scope() -> None:
        with scope:
            await work()

    trio.lowlevel.spawn_system_task(in_scope, context=context)
    token = trio.lowlevel.current_trio_token()

    def is_here() -> bool:
        return trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is token

    # trio cancels its system tasks when it ends, so that none is ever lost.
    return BackgroundTask(partial(_from_any_thread, token.run_sync_soon, scope.cancel), lambda: False, is_here)


def _is_running(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:  # no event loop, or one of trio
        return False


def _from_any_thread(call_soon: Callable[[Callable[[], object]], object], cancel: Callable[[], object]) -> None:
    with suppress(RuntimeError):  # the event loop has ended; trio's own error is one, too
        call_soon(cancel)
