"""Finish what was begun, whatever becomes of the task that asked for it.

Under trio and for anyio's cancel scopes a shielded scope is enough. asyncio's own ``Task.cancel`` goes through shields,
so there the work runs in a task of its own; the asking task waits for its end in any case, passes the cancellation on
afterwards, and so never leaves a task behind. When the event loop itself is closed, both are cancelled, and the work
sees it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any, Final

import anyio
import anyio.lowlevel

__all__ = ["finish"]

_UNSET: Final = object()


async def finish(work: Callable[[], Awaitable[None]], given_up: Callable[[], None]) -> None:
    """Run ``work`` to its end and raise what it raises; ``given_up`` is called when this task is cancelled meanwhile.

    Context variables that the work set are set here too, as if it had run in this task.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        await _in_a_shield(work, given_up)
        return
    context = copy_context()
    task = loop.create_task(_as_coroutine(work), context=context)
    cancelled: asyncio.CancelledError | None = None
    try:
        await asyncio.wait((task,))
    except asyncio.CancelledError as error:
        cancelled = error
        given_up()
        await _until_done(task)
    _adopt(context)
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # the caller is gone: the error was kept, and must not be reported as never retrieved
        raise cancelled
    task.result()


async def _until_done(task: asyncio.Task[None]) -> None:
    """Wait on after a cancellation; a scope that is cancelled would otherwise repeat it at every turn of the loop."""
    with anyio.CancelScope(shield=True):
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait((task,))


async def _in_a_shield(work: Callable[[], Awaitable[None]], given_up: Callable[[], None]) -> None:
    """For trio: inside the shield nobody hears of a cancellation, so a second task listens outside it."""
    error: BaseException | None = None

    async def listen() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            given_up()

    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        with anyio.CancelScope(shield=True):
            try:
                await work()
            except BaseException as raised:
                error = raised
        group.cancel_scope.cancel()
    if error is not None:
        raise error
    await anyio.lowlevel.checkpoint_if_cancelled()


async def _as_coroutine(work: Callable[[], Awaitable[None]]) -> None:
    await work()


def _adopt(context: Context) -> None:
    for variable, value in context.items():
        known: Any = variable.get(_UNSET)
        if known is not value:
            variable.set(value)
