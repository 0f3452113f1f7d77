"""Finish what was begun, whatever becomes of the task that asked for it.

Under trio and for anyio's cancel scopes a shielded scope is enough. asyncio's own ``Task.cancel`` goes through shields,
so there the work runs in a task of its own; the asking task waits for its end in any case, passes the cancellation on
afterwards, and so never leaves a task behind. When the event loop itself is closed, both are cancelled, and the work
sees it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from typing import Any, Final

import anyio

__all__ = ["finish"]

_UNSET: Final = object()


async def finish(work: Callable[[], Awaitable[None]], given_up: Callable[[], None]) -> None:
    """Run ``work`` to its end and raise what it raises; ``given_up`` is called when this task is cancelled meanwhile.

    Context variables that the work set are set here too, as if it had run in this task.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        with anyio.CancelScope(shield=True):
            await work()
        return
    context = copy_context()
    task = loop.create_task(_as_coroutine(work), context=context)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait((task,))
            except asyncio.CancelledError as error:
                cancelled = error
                given_up()
    _adopt(context)
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # the caller is gone: the error was kept, and must not be reported as never retrieved
        raise cancelled
    task.result()


async def _as_coroutine(work: Callable[[], Awaitable[None]]) -> None:
    await work()


def _adopt(context: Context) -> None:
    for variable, value in context.items():
        known: Any = variable.get(_UNSET)
        if known is not value:
            variable.set(value)
