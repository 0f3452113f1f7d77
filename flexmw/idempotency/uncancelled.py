"""Run work to completion when the task that started it is cancelled.

A shielded cancel scope is enough under trio and for anyio's cancel scopes. asyncio's own ``Task.cancel`` ignores
shields, so under asyncio the work runs in a nested task (:mod:`flexmw.idempotency.nested_task`). The first task waits
for the end of the work in any case, so no task is left behind. It raises the error of the work, or else is cancelled.
When the event loop is closed, both are cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio
import anyio.lowlevel

from flexmw.idempotency.nested_task import run_nested

__all__ = ["run_to_completion"]


def run_to_completion(work: Coroutine[Any, Any, None], on_cancel: Callable[[], None]) -> Awaitable[None]:
    """Run ``work`` to its end, and raise what it raises. Not a coroutine: what it returns is awaited at once.

    Context variables that the work has set are set in this task too, as if the work had run in it.

    :param work: the work.
    :param on_cancel: called when this task is cancelled while the work runs.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _in_a_shield(work, on_cancel)
    return run_nested(work, on_cancel)


async def _in_a_shield(work: Coroutine[Any, Any, None], on_cancel: Callable[[], None]) -> None:
    """The same for trio. The shield hides a cancellation from the work, so a second task outside it reports one."""
    error: BaseException | None = None
    is_done = False

    async def report_cancellation() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            if not is_done:  # the end of the work cancels this task, too
                on_cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(report_cancellation)
        with anyio.CancelScope(shield=True):
            try:
                await work
            except BaseException as raised:
                error = raised
        is_done = True
        group.cancel_scope.cancel()
    if error is not None:
        raise error
    await anyio.lowlevel.checkpoint_if_cancelled()
