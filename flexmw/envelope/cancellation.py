"""Cancellation: distinguish a cancellation of the request from a ``CancelledError`` that the app raises by itself.

An app that awaits a cancelled task of its own lets that task's ``CancelledError`` escape. Nobody has cancelled the
request: the client waits for a response, and without one from the Envelope the server would send its own error.
"""

from __future__ import annotations

from asyncio import CancelledError, current_task

__all__ = ["is_answered"]


def is_answered(error: BaseException) -> bool:
    """True if an error response is to be sent for what an app has raised.

    That is any exception, and a ``CancelledError`` of asyncio that did not come from cancelling the running task.
    """
    if not isinstance(error, CancelledError):
        return isinstance(error, Exception)
    try:
        task = current_task()
    except RuntimeError:  # trio
        return False
    return task is not None and not task.cancelling()
