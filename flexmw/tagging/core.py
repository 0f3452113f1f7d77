"""Attributes and decisions of telemetry as pure functions.

>>> status_of(429, server=True), status_of(429, server=False), status_of(503, server=True)
('unset', 'error', 'error')
>>> error_type(503, None), error_type(None, KeyError("k")), error_type(200, None)
('503', 'KeyError', None)
"""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from flexmw.contract import redact
from flexmw.contract.request_secrets import remove_secrets
from flexmw.contract.sdk import parse_retry_count

__all__ = [
    "DISCONNECTED",
    "INCOMPLETE",
    "Attributes",
    "Ending",
    "ExceptionTarget",
    "Mode",
    "Value",
    "Vocabulary",
    "call_outcome",
    "ending",
    "error_type",
    "exception_attributes",
    "exception_target",
    "is_normal_close",
    "mode_of",
    "resend_count",
    "retry_count",
    "status_of",
    "type_name",
]

Value: TypeAlias = str | int | float | bool
Attributes: TypeAlias = dict[str, Value]
Ending: TypeAlias = Literal["complete", "failed", "client_disconnected", "cancelled", "abandoned"]
Mode: TypeAlias = Literal["auto", "logs", "logs/dup"]
ExceptionTarget: TypeAlias = Literal["log", "span", "both", "framework", "nobody"]

INCOMPLETE: Final = "incomplete_response"
"""``error.type`` of an app that returned before its response was complete."""

DISCONNECTED: Final = "client_disconnected"
"""``error.type`` of a response whose client disconnected, where the app raised nothing."""

_OTHER: Final = "_OTHER"
_BARE_CODE: Final = re.compile(r"http_[45]\d\d")
_STACK_BYTES: Final = 16 * 1024
_MESSAGE_CHARACTERS: Final = 2048
_LONGEST_SECRET: Final = 4096
"""Characters after the limit of a text that are kept while secrets are removed, so that no secret is cut in two."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The closed sets of the error object's types and codes: the contract's and those that an application declares."""

    types: frozenset[str]
    codes: frozenset[str]

    def attributes(self, type: str | None, code: str | None, source: str | None) -> Attributes:
        """The attributes of an error response. A value outside its set becomes ``_OTHER``, ``None`` is left out."""
        attributes: Attributes = {}
        if type is not None:
            attributes["flexmw.error.type"] = type if type in self.types else _OTHER
        if code is not None:
            known = code in self.codes or _BARE_CODE.fullmatch(code)
            attributes["flexmw.error.code"] = code if known else _OTHER
        if source is not None:
            attributes["flexmw.error.source"] = source
        return attributes


def status_of(status: int, *, server: bool) -> Literal["unset", "error"]:
    """The span status for an HTTP status. A client error (4xx) is an error on client spans only.

    The source is section "Status" of the semantic conventions for HTTP spans.
    """
    return "error" if status >= (500 if server else 400) else "unset"


def type_name(error: BaseException) -> str:
    """The class name for ``error.type`` and ``exception.type``: with its module, except for builtins."""
    cls = type(error)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def error_type(status: int | None, error: BaseException | None, *, server: bool = True) -> str | None:
    """The value of ``error.type``: the exception's class, else an error status as text, else ``None``.

    On the client the class name has no module (``ConnectError``), because httpx's instrumentors write it like that on
    the spans of attempts, and span and metric must have equal values to be compared.

    :param status: the status that was sent or received; ``None`` where none was.
    """
    if error is not None:
        return type_name(error) if server else type(error).__qualname__
    if status is None:
        return None
    return str(status) if status_of(status, server=server) == "error" else None


def is_normal_close(error: BaseException | None) -> bool:
    """Whether ``error`` says that the client has closed a websocket in order: Starlette's ``WebSocketDisconnect`` with
    code 1000 (normal closure) or 1001 (going away)."""
    return type(error).__name__ == "WebSocketDisconnect" and getattr(error, "code", None) in (1000, 1001)


def ending(error: BaseException | None, *, complete: bool, disconnected: bool) -> Ending:
    """How a response ended: ``complete``, else ``cancelled``, else ``client_disconnected``, else ``failed``.

    :param error: what the app has raised.
    :param complete: the app has sent a last body, and the client was there to get it.
    """
    if complete:
        return "complete"
    if error is not None and not isinstance(error, Exception):
        return "cancelled"
    return "client_disconnected" if disconnected else "failed"


def call_outcome(error: BaseException | None) -> Ending:
    """How the response to a call ended.

    :param error: what the call or its body has raised; ``GeneratorExit`` where the caller closed the body before its
        end.
    """
    if error is None:
        return "complete"
    # isinstance() asks an exception of another class for its __class__, which a strange one refuses.
    if issubclass(type(error), GeneratorExit):
        return "abandoned"
    return "failed" if isinstance(error, Exception) else "cancelled"


def mode_of(opt_in: str | None) -> Mode:
    """The mode that ``OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN`` sets; an unknown value counts as unset (``auto``)."""
    words = {word.strip() for word in (opt_in or "").split(",")}
    return "logs/dup" if "logs/dup" in words else "logs" if "logs" in words else "auto"


def exception_target(*, framework: bool, mode: Mode, log: bool, span: bool) -> ExceptionTarget:
    """Where flexmw records an exception, so that it is recorded exactly once.

    :param framework: an instrument of the app or around flexmw records it.
    :param log: a logger exports the event.
    :param span: a span that flexmw can write to is recording.
    """
    if framework:
        return "framework"
    if mode == "logs/dup":
        return "both" if log and span else "log" if log else "span" if span else "nobody"
    if log:
        return "log"
    return "span" if span and mode == "auto" else "nobody"


def exception_attributes(error: BaseException, secrets: tuple[str, ...] = (), *, text: bool = True) -> Attributes:
    """The attributes ``exception.*``: the class, and message and stack after the redactor.

    A long stack keeps its end, where the exception was raised.

    :param secrets: texts that are replaced by ``***``.
    :param text: ``False`` leaves message and stack out.
    """
    attributes: Attributes = {"exception.type": type_name(error)}
    if not text:
        return attributes
    try:
        message = str(error)
    except Exception:
        message = "<unprintable>"
    try:
        stack = "".join(traceback.format_exception(error))
    except Exception:  # an attribute that raises, such as `__notes__`
        stack = "<unprintable>"
    attributes["exception.message"] = _clean(message, secrets, _MESSAGE_CHARACTERS)
    attributes["exception.stacktrace"] = _clean(stack, secrets, _STACK_BYTES)
    return attributes


def retry_count(value: str | None) -> int | None:
    """The number in an SDK's header ``x-stainless-retry-count``, at most 100; ``None`` where it is not a number."""
    count = parse_retry_count(value)
    return None if count is None else min(100, count)


def resend_count(*, scheduled: int, sent: int) -> int:
    """The value of ``http.request.resend_count``: the resends so far.

    :param scheduled: retries that a Retry has announced.
    :param sent: request heads that have left before this one, for transports or components that retry unannounced.
    """
    return max(scheduled, sent)


def _clean(text: str, secrets: tuple[str, ...], limit: int) -> str:
    if len(text) > limit:
        # Cut first: removing the words of a long cookie from a text of 1 MB took 20 s.
        text = text[-limit:].partition("\n")[2] or text[: limit + _LONGEST_SECRET]
    return redact(remove_secrets(text, secrets), limit=limit)
