"""Cancellation: distinguish a cancellation of the request from a ``CancelledError`` that the app raises by itself.

An app that awaits a cancelled task of its own lets that task's ``CancelledError`` escape. Nobody has cancelled the
request: the client waits for a response, and without one from the Envelope the server would send its own error.

uvicorn cancels what still runs when its time to stop is over, and responds with a plain 500. A client such as an SDK
takes a 500 for a reason to send a POST again, and another worker executes it a second time. So the Envelope responds
before uvicorn does. Any other cancellation of a request gets no response: whoever has cancelled it may send one.
"""

from __future__ import annotations

from asyncio import CancelledError, current_task
from typing import Final

from flexmw.contract.exception_slots import chain_of

__all__ = ["ends_with_server", "needs_response"]

_UVICORN_ENDS: Final = "Task cancelled, timeout graceful shutdown exceeded"
"""The message of a cancellation by uvicorn, the only mark that it has."""

_ENDS_PROGRAM: Final = (KeyboardInterrupt, SystemExit, GeneratorExit)
_TRIO_CANCELLED: Final = ("trio", "Cancelled")
"""Package and class name of trio's cancellation. The name is compared, so that trio need not be imported."""


def needs_response(error: BaseException) -> bool:
    """True if the Envelope sends an error response for an exception of the app.

    It does so for each exception that ends neither the program nor the request. These include exceptions that are not
    an ``Exception``, such as a panic of a Rust extension, and a ``CancelledError`` of asyncio if the running task was
    not cancelled. An exception group needs a response if all of its members do.
    """
    if isinstance(error, Exception):
        return True
    if isinstance(error, _ENDS_PROGRAM):
        return False
    if isinstance(error, BaseExceptionGroup):
        return all(map(needs_response, BaseExceptionGroup.exceptions.__get__(error)))
    if not isinstance(error, CancelledError):
        cls = type(error)
        return (cls.__module__.partition(".")[0], cls.__name__) != _TRIO_CANCELLED
    try:
        task = current_task()
    except RuntimeError:  # trio
        return False
    return task is not None and not task.cancelling()


def ends_with_server(error: BaseException) -> bool:
    """True for a cancellation by uvicorn, which ends. It responds with a plain 500 unless a response has begun.

    What does not end at once, such as a thread below a task group, is cancelled again with the event loop, without a
    message. The first cancellation is then the context of the second.
    """
    return type(error) is CancelledError and any(
        type(cancelled) is CancelledError and cancelled.args == (_UVICORN_ENDS,) for cancelled in chain_of(error)
    )
