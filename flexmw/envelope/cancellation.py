"""Tell a cancellation that somebody has asked for from one that an app has raised by itself.

An app that awaits a task of its own which was cancelled lets that ``CancelledError`` escape: nobody has cancelled the
request, its client waits, and a server would answer with words of its own.
"""

from __future__ import annotations

from asyncio import CancelledError, current_task

__all__ = ["is_answered"]


def is_answered(error: BaseException) -> bool:
    """Whether what an app has raised is to be answered: an exception, or a cancellation of asyncio that is not the
    running task's."""
    if not isinstance(error, CancelledError):
        return isinstance(error, Exception)
    try:
        task = current_task()
    except RuntimeError:  # trio
        return False
    return task is not None and not task.cancelling()
