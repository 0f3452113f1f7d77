"""Cancellation: distinguish a cancellation of the request from a ``CancelledError`` that the app raises by itself.

An app that awaits a cancelled task of its own lets that task's ``CancelledError`` escape. Nobody has cancelled the
request: the client waits for a response, and without one from the Envelope the server would send its own error.
"""

from __future__ import annotations

from asyncio import CancelledError, current_task
from typing import Final

__all__ = ["is_answered"]


_ENDS_PROGRAM: Final = (KeyboardInterrupt, SystemExit, GeneratorExit)
_TRIO_CANCELLED: Final = ("trio", "Cancelled")
"""Module root and class of trio's cancellation, which is imported nowhere here."""


def is_answered(error: BaseException) -> bool:
    """True if an error response is to be sent for what an app has raised.

    That is any exception but those that end the program or the request. An exception that is no ``Exception`` counts
    too: a panic of an extension in Rust is one. So does a ``CancelledError`` of asyncio that did not come from
    cancelling the running task. A group counts if all of its members do.
    """
    if isinstance(error, Exception):
        return True
    if isinstance(error, _ENDS_PROGRAM):
        return False
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_answered, BaseExceptionGroup.exceptions.__get__(error)))
    if not isinstance(error, CancelledError):
        cls = type(error)
        return (cls.__module__.partition(".")[0], cls.__name__) != _TRIO_CANCELLED
    try:
        task = current_task()
    except RuntimeError:  # trio
        return False
    return task is not None and not task.cancelling()
