"""What telemetry says about a request or a call: values in, attributes and decisions out.

>>> status_of(429, server=True), status_of(429, server=False), status_of(503, server=True)
('unset', 'error', 'error')
>>> error_type(503, None), error_type(None, KeyError("k")), error_type(200, None)
('503', 'KeyError', None)
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias
from urllib.parse import unquote_plus

from flexmw.contract import CREDENTIALS, redact
from flexmw.contract.sdk import parse_retry_count

__all__ = [
    "DISCONNECTED",
    "INCOMPLETE",
    "Attributes",
    "Ending",
    "Mode",
    "Value",
    "Vocabulary",
    "Who",
    "ending",
    "error_type",
    "exception_attributes",
    "mode_of",
    "recorder",
    "resend_count",
    "retry_count",
    "safe_query",
    "secrets_in",
    "status_of",
    "type_name",
]

Value: TypeAlias = str | int | float | bool
Attributes: TypeAlias = dict[str, Value]
Ending: TypeAlias = Literal["complete", "failed", "client_disconnected", "cancelled"]
Mode: TypeAlias = Literal["auto", "logs", "logs/dup"]
Who: TypeAlias = Literal["log", "span", "both", "host", "nobody"]

INCOMPLETE: Final = "incomplete_response"
"""``error.type`` of an app that returned before it had answered."""

DISCONNECTED: Final = "client_disconnected"
"""``error.type`` of a response whose reader left and whose app took it quietly."""

_OTHER: Final = "_OTHER"
_BARE_CODE: Final = re.compile(r"http_[45]\d\d")
_STACK_BYTES: Final = 16 * 1024
_SECRET_HEADERS: Final = frozenset(
    {
        *CREDENTIALS,
        "proxy-authorization",
        "cookie",
        "idempotency-key",
        "x-amz-security-token",
    }
)
_SECRET_PARAMETERS: Final = frozenset(
    {
        "api_key",
        "apikey",
        "api-key",
        "key",
        "token",
        "access_token",
        "auth_token",
        "client_secret",
        "password",
        "secret",
        "signature",
        "sig",
        "awsaccesskeyid",
        "x-amz-signature",
        "x-amz-credential",
        "x-amz-security-token",
        "x-goog-signature",
    }
)
"""The conventions' list of signatures, and the names under which API keys travel."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The closed sets of the envelope's types and codes: the contract's and those an application declares."""

    types: frozenset[str]
    codes: frozenset[str]

    def facts(self, type: str | None, code: str | None, source: str | None) -> Attributes:
        """The attributes of an error answer; what is in neither set becomes ``_OTHER``, what is unknown is left out."""
        facts: Attributes = {}
        if type is not None:
            facts["flexmw.error.type"] = type if type in self.types else _OTHER
        if code is not None:
            known = code in self.codes or _BARE_CODE.fullmatch(code)
            facts["flexmw.error.code"] = code if known else _OTHER
        if source is not None:
            facts["flexmw.error.source"] = source
        return facts


def status_of(status: int, *, server: bool) -> Literal["unset", "error"]:
    """The span status of an HTTP status: a client error is no failure of the server (HTTP spans, "Status")."""
    return "error" if status >= (500 if server else 400) else "unset"


def type_name(error: BaseException) -> str:
    """A class as ``error.type`` and ``exception.type`` name it: qualified, builtins bare."""
    cls = type(error)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def error_type(status: int | None, error: BaseException | None, *, server: bool = True) -> str | None:
    """One value per failure: the exception's class, else the status where that is one; ``None`` otherwise.

    A client's class is bare (``ConnectError``), as httpx's instrumentors write it on the attempts' spans: the values of
    span and metric must be the same to be of use.
    """
    if error is not None:
        return type_name(error) if server else type(error).__qualname__
    if status is None:
        return None
    return str(status) if status_of(status, server=server) == "error" else None


def ending(error: BaseException | None, *, complete: bool, disconnected: bool) -> Ending:
    """How a response ended, in that order of precedence: it was whole, its reader left, we were stopped, it broke."""
    if complete:
        return "complete"
    if error is not None and not isinstance(error, Exception):
        return "cancelled"
    return "client_disconnected" if disconnected else "failed"


def mode_of(opt_in: str | None) -> Mode:
    """What ``OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN`` asks for; anything unknown is as if unset."""
    words = {word.strip() for word in (opt_in or "").split(",")}
    return "logs/dup" if "logs/dup" in words else "logs" if "logs" in words else "auto"


def recorder(*, host: bool, mode: Mode, log: bool, span: bool) -> Who:
    """Who records an exception, so that it is recorded exactly once.

    :param host: an instrument of the host records it already.
    :param log: a logger listens. :param span: a span that we may write on records.
    """
    if host:
        return "host"
    if mode == "logs/dup":
        return "both" if log and span else "log" if log else "span" if span else "nobody"
    if log:
        return "log"
    return "span" if span and mode == "auto" else "nobody"


def secrets_in(headers: Iterable[tuple[str, str]], query: str = "") -> tuple[str, ...]:
    """Values that must not be repeated: credentials of this very request, as sent and as decoded, longest first."""
    found: set[str] = set()
    for name, value in headers:
        if name in _SECRET_HEADERS:
            found.update((value, value.strip('"')))
            found.update(value.split())
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name.lower() in _SECRET_PARAMETERS:
            found.update((value, unquote_plus(value)))
    return tuple(sorted((value for value in found if len(value) >= 6), key=len, reverse=True))


def safe_query(query: str) -> str:
    """A query without the values of parameters that carry credentials or signatures."""
    parts: list[str] = []
    for part in query.split("&"):
        name, equals, _ = part.partition("=")
        parts.append(f"{name}=REDACTED" if equals and name.lower() in _SECRET_PARAMETERS else redact(part))
    return "&".join(parts)


def exception_attributes(error: BaseException, secrets: tuple[str, ...] = (), *, text: bool = True) -> Attributes:
    """``exception.*`` of a log event: the class, and message and stack after the redactor.

    The stack keeps its end, where the exception was raised. ``text=False`` leaves message and stack out.
    """
    attributes: Attributes = {"exception.type": type_name(error)}
    if not text:
        return attributes
    try:
        message = str(error)
    except Exception:
        message = "<unprintable>"
    stack = "".join(traceback.format_exception(error))
    attributes["exception.message"] = _clean(message, secrets, 2048)
    attributes["exception.stacktrace"] = _clean(stack, secrets, _STACK_BYTES)
    return attributes


def retry_count(value: str | None) -> int | None:
    """The attempt number that an SDK states in ``x-stainless-retry-count``, held to 0..100."""
    count = parse_retry_count(value)
    return None if count is None else min(100, count)


def resend_count(*, scheduled: int, sent: int) -> int:
    """Which resend this is: by the retries announced, or by the request heads that went out before it."""
    return max(scheduled, sent)


def _clean(text: str, secrets: tuple[str, ...], limit: int) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    if len(text) > limit:
        text = text[-limit:].partition("\n")[2] or text[:limit]
    return redact(text, limit=limit)
