"""The log lines of Envelope: logger ``flexmw.envelope``.

Envelope raises a crash of the app again, and the server logs it with its traceback. But some frameworks respond to a
crash with a 500 of their own and raise nothing. Most of them log the crash (:data:`LOGGING_FRAMEWORKS`); Litestar does
not outside of its debug mode, and neither does an error handler of the app that says nothing. Envelope replaces such a
response, which is the last trace of the crash, so Envelope logs the crash.

hypercorn logs no ``CancelledError``, also if nobody has cancelled the request. Envelope logs such a crash on every
server.
"""

from __future__ import annotations

import logging
import time
import traceback
from asyncio import CancelledError
from collections.abc import Iterator
from enum import Enum
from types import TracebackType
from typing import Any, Final

from flexmw.contract import redact
from flexmw.contract.exception_slots import traceback_of
from flexmw.contract.request_secrets import remove_secrets, secrets_in
from flexmw.kit.asgi import Scope
from flexmw.kit.log_limit import LogLimit

__all__ = ["LOGGING_FRAMEWORKS", "AppFault", "log_crash", "log_fault", "log_raised"]

LOGGING_FRAMEWORKS: Final = frozenset({"blacksheep", "django", "falcon", "quart"})
"""The packages that log each crash that they respond to. ``tests/envelope/test_crash_log.py`` compares the list with
the frameworks themselves."""

_LOGGER: Final = logging.getLogger("flexmw.envelope")
_LIMIT: Final = LogLimit(burst=10, per_second=1.0, monotonic=time.monotonic)
_MAX_FRAMES: Final = 100
_STACK_CHARACTERS: Final = 16 * 1024
_PATH_CHARACTERS: Final = 200


_HIDDEN: Final = (
    logging.ERROR,
    "%s: the app has responded to a crash without raising or logging it. The client gets a 500.%s%s",
)
_CANCELLED: Final = (
    logging.ERROR,
    (
        "%s: the app has raised CancelledError, and nobody has cancelled its request: something that it awaits was "
        "cancelled.%s%s"
    ),
)
"""The lines of crashes: the level and the text, whose fields are the request, the number of lines that were left out
and the stack."""


class AppFault(Enum):
    """A breach of ASGI by the app: the level and the text of its log line.

    The first field of a text is the request, and the last one the number of lines that were left out.
    """

    NO_RESPONSE = (logging.ERROR, "%s: the app has sent no response. The client gets a 500.%s")
    """The app has returned without a response."""

    NO_END = (
        logging.ERROR,
        (
            "%s: the app has returned without the end of its stream. The client gets an error at its end, unless the "
            "app has sent the last event.%s"
        ),
    )
    """The app has returned in the middle of a stream."""

    ERROR_IN_STREAM = (
        logging.ERROR,
        (
            "%s: the app has begun a second response, a %d, within its stream. The client gets an error at its end, "
            "unless the app has sent the last event.%s"
        ),
    )
    """The app has sent an error within an event stream."""

    ERROR_IN_RESPONSE = (
        logging.ERROR,
        (
            "%s: the app has begun an error, a %d, within its response. The server cuts the connection, so that the "
            "client does not take the response for a complete one.%s"
        ),
    )
    """The app has sent an error within a response that is no event stream."""

    SECOND_START = (
        logging.WARNING,
        (
            "%s: the app has sent http.response.start twice. Envelope drops the second one, with status %s: the client "
            "gets the first response. Without an Envelope the server raises an error.%s"
        ),
    )
    """The app has sent a second ``http.response.start``, which Envelope drops."""


def log_crash(scope: Scope, error: BaseException, stack: TracebackType | None) -> None:
    """Log a crash that the app has responded to and not raised, unless its framework has logged it.

    The record has the exception, unless its text holds a secret: then the message has the stack without the secret.

    :param stack: the traceback of the exception when the app responded to it.
    """
    if LOGGING_FRAMEWORKS.isdisjoint(_packages(stack)):
        _log_stack(scope, _HIDDEN, error, stack)


def log_raised(scope: Scope, error: BaseException) -> None:
    """Log a crash that the app has raised, if it is one that a server takes for a cancellation of the request.

    :param error: an exception that needs a response. It is raised again.
    """
    if issubclass(type(error), CancelledError):
        _log_stack(scope, _CANCELLED, error, traceback_of(error))


def log_fault(scope: Scope, fault: AppFault, *details: object) -> None:
    """Log a fault of the app.

    :param details: the values for the text of the fault: the status of the second response, of any type.
    """
    if (left_out := _LIMIT.admit()) is not None:
        level, text = fault.value
        shown = (detail if type(detail) is int else redact(repr(detail)) for detail in details)
        _LOGGER.log(level, text, _request(scope), *shown, left_out)


def _packages(stack: TracebackType | None) -> Iterator[str]:
    """The top-level packages whose code an exception has passed through."""
    current, frames_left = stack, _MAX_FRAMES
    while current is not None and frames_left:
        name: Any = current.tb_frame.f_globals.get("__name__")
        yield str(name).partition(".")[0]
        current, frames_left = current.tb_next, frames_left - 1


def _log_stack(scope: Scope, line: tuple[int, str], error: BaseException, stack: TracebackType | None) -> None:
    """Log a crash with its stack: in the message without secrets, or as the exception if its text holds none."""
    if (left_out := _LIMIT.admit()) is None:
        return
    level, text = line
    shown = _without_secrets(scope, whole := _text_of(error, stack))
    is_clean = shown == whole
    _LOGGER.log(
        level,
        text,
        _request(scope),
        left_out,
        "" if is_clean else f"\n{shown}",
        exc_info=(type(error), error, stack) if is_clean else None,
    )


def _text_of(error: BaseException, stack: TracebackType | None) -> str:
    try:
        text = "".join(traceback.format_exception(type(error), error, stack)).rstrip()
    except Exception:  # an attribute that raises, such as `__notes__`
        return f"{type(error).__name__}: <unprintable>"
    return text[-_STACK_CHARACTERS:]


def _without_secrets(scope: Scope, text: str) -> str:
    headers = ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"])
    secrets = secrets_in(headers, scope.get("query_string", b"").decode("latin-1"))
    return redact(remove_secrets(text, secrets), limit=_STACK_CHARACTERS)


def _request(scope: Scope) -> str:
    """The method and the path of a request, without secrets and without characters that a terminal acts on."""
    path = _without_secrets(scope, str(scope.get("path", ""))[:_PATH_CHARACTERS])
    return f"{scope.get('method', scope['type'])} " + "".join(
        char if char.isprintable() else ascii(char)[1:-1] for char in path
    )
