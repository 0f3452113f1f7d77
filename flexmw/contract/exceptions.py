"""Exception mapping: which error response an exception becomes, whichever library it comes from. Pure.

The only such mapping in flexmw: Envelope sends its result, Idempotency stores it, Tagging reports it. All three call it
as ``Exchange.map_exception``, which applies the options of the Envelope outside, if there is one. A new library is a
new row of ``_RULES``.

>>> map_exception(TimeoutError("db at 10.0.0.7")).error.code
'upstream_timeout'
>>> map_exception(ValueError("secret")).error.message
'Internal server error.'
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final

from flexmw.contract.bodies import FOREIGN, PartialError, complete, is_own_message, of_text, recognise, validation
from flexmw.contract.error import ErrorBody
from flexmw.contract.messages import reword
from flexmw.contract.table import OWN, PAGE, Row, for_status
from flexmw.contract.text import contains_text_of

__all__ = ["GONE", "ErrorMapping", "map_exception", "names", "stands_for", "stems_from"]

GONE: Final = 499
"""The status of a request whose client has disconnected: for logs and metrics, never sent."""

_MAX_VISITED: Final = 50
"""Exceptions of one chain that are looked at: a chain may be a circle, and groups may be large."""


@dataclass(frozen=True, slots=True)
class ErrorMapping:
    """The error response that an exception becomes.

    :param status: 400 to 599; or :data:`GONE`, which means that no response is sent.
    :param error: the error object of the body.
    :param headers: the headers that the exception asks for, such as ``Retry-After``.
    :param source: one of the sources of :class:`flexmw.kit.exchange.ErrorOutcome`.
    :param intentional: True if the app raised the exception as its response (an ``APIError``, a framework's
        ``HTTPException``). Such an exception is not a crash, and Envelope does not raise it again.
    :param exception: the exception that telemetry should record, if any.
    """

    status: int
    error: ErrorBody
    headers: tuple[tuple[str, str], ...] = ()
    source: str = "unhandled_exception"
    intentional: bool = False
    exception: BaseException | None = field(default=None, compare=False)


def map_exception(
    error: BaseException,
    *,
    timeout_status: int = 500,
    validation_status: int | None = None,
    messages: Mapping[str, str] | None = None,
) -> ErrorMapping:
    """Map an exception that the app has raised to an error response.

    :param timeout_status: the status of timeouts, 500 or 504.
    :param validation_status: the status of a failed validation; ``None`` keeps the framework's.
    :param messages: the app's messages, by code; see :func:`flexmw.contract.messages.reword`.
    """
    mapping = _map(error, timeout_status, validation_status)
    return replace(mapping, error=reword(mapping.error, messages)) if messages else mapping


def _map(error: BaseException, timeout_status: int, validation_status: int | None) -> ErrorMapping:
    for candidate in _origins(error):
        for name in names(type(candidate)):
            rule = _RULES.get(name)
            mapping = rule(candidate) if rule is not None else None
            if mapping is None:
                continue
            if mapping.error.code == "upstream_timeout" and not mapping.intentional:
                mapping = replace(mapping, status=timeout_status)
            elif mapping.source == "validation" and mapping.status == 422 and validation_status is not None:
                mapping = replace(mapping, status=validation_status)
            return mapping if mapping.intentional else replace(mapping, exception=error)
    if (parser := _parsing_request(error)) is not None:
        return _of_row(for_status(400), parser, source="validation", intentional=True)
    return _of_row(for_status(500), exception=error)


def stems_from(error: BaseException, source: BaseException) -> bool:
    """True if ``error`` is ``source``, is a group that contains it, or has it among its causes and contexts."""
    visited: list[BaseException] = []
    pending = [error]
    while pending and len(visited) < _MAX_VISITED:
        current = pending.pop()
        if current is source:
            return True
        if any(current is other for other in visited):
            continue
        visited.append(current)
        pending.extend(_members(current))
        pending.extend(other for other in (current.__cause__, current.__context__) if other is not None)
    return False


def stands_for(remembered_status: int, status: int, *, says_nothing: bool) -> bool:
    """True if a framework's response stands for an ``APIError`` that the app made: one of the error's own status, or a
    bare 500 of a framework that knows no better.

    :param remembered_status: the error's status.
    :param status: the response's status.
    :param says_nothing: True if the response's body states no more than its status does.
    """
    return remembered_status == status or (says_nothing and status == 500)


def names(cls: type) -> Iterator[str]:
    """Yield a class and its bases as ``package.Class``; libraries move classes between their modules."""
    for base in cls.__mro__:
        yield f"{base.__module__.partition('.')[0]}.{base.__qualname__}"


def _origins(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception, then those that it only wraps: the single member of a group, or the exception that the
    framework's error handler was handling when the handler itself raised."""
    visited: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in visited and len(visited) < 20:
        visited.add(id(current))
        yield current
        members = _members(current)
        only = members[0] if len(members) == 1 else None
        current = only if members else _handled_before(current)


def _members(error: BaseException) -> Sequence[BaseException]:
    """The members of an exception group; nothing for any other exception."""
    members: Sequence[BaseException] = getattr(error, "exceptions", ())
    return members if isinstance(error, BaseExceptionGroup) else ()


def _handled_before(error: BaseException) -> BaseException | None:
    """The exception that a framework's error handler was handling when it raised ``error``, or a cause of ``error``."""
    cause, depth = error.__cause__ or error.__context__, 0
    while cause is not None and depth < 5:
        top = cause.__traceback__
        if top is not None and top.tb_frame.f_globals.get("__name__") in _HANDLERS:
            return cause
        cause, depth = cause.__cause__ or cause.__context__, depth + 1
    return None


_HANDLERS: Final = frozenset({"starlette._exception_handler", "litestar.middleware._internal.exceptions.middleware"})
"""Modules whose code catches an exception in order to run an error handler for it."""

_PARSERS: Final = frozenset({("starlette.requests", "json"), ("starlette.requests", "_get_form")})


def _parsing_request(error: BaseException) -> PartialError | None:
    """The error of a request body that cannot be parsed, if ``error`` was raised while the framework parsed one.

    The frames of the traceback decide: the same exception out of any other parsing is the server's fault.
    """
    if not isinstance(error, (ValueError, RecursionError)):
        return None
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        if (frame.f_globals.get("__name__"), frame.f_code.co_name) in _PARSERS:
            if frame.f_code.co_name == "json":
                return PartialError(OWN["invalid_json"].message, code="invalid_json")
            return PartialError("The request body is not valid form data.")
        traceback = traceback.tb_next
    return None


def _of_row(row: Row, partial: PartialError | None = None, **fields: Any) -> ErrorMapping:
    partial = partial or PartialError()
    error = ErrorBody(
        message=partial.message or row.message,
        type=partial.type or row.type,
        code=partial.code or row.code,
        param=partial.param,
        doc_url=partial.doc_url,
        placeholders={} if not partial.message or is_own_message(partial) else None,
    )
    return ErrorMapping(status=row.status, error=error, **fields)


def _api_error(error: Any) -> ErrorMapping:
    headers = tuple((error.headers or {}).items())
    return ErrorMapping(
        error.status, error.body, headers, "http_exception", intentional=True, exception=error.__cause__
    )


def _http(status: str, detail: str, headers: str = "headers") -> Callable[[Any], ErrorMapping | None]:
    """A framework's own HTTP exception, by the names of its attributes."""

    def read(error: Any) -> ErrorMapping | None:
        number = _status_of(getattr(error, status, None))
        if number is None:
            return None
        partial = _detail(getattr(error, detail, None), number)
        if number >= 500 and partial is not None and partial.message and _repeats_cause(error, partial.message):
            partial = None
        pairs = tuple(_pairs(getattr(error, headers, None)))
        return ErrorMapping(number, complete(partial, number), pairs, "http_exception", intentional=True)

    return read


def _detail(detail: object, status: int) -> PartialError | None:
    if isinstance(detail, str):
        return of_text(detail, status)
    found = recognise({"detail": detail}, status) if detail else None
    return found if found is not FOREIGN else None


def _repeats_cause(error: BaseException, message: str) -> bool:
    """True if a message contains the text of an exception that ``error`` was raised from."""
    inner, depth = error.__cause__ or error.__context__, 0
    while inner is not None and depth < 5:
        if "flexmw.APIError" not in names(type(inner)) and contains_text_of(inner, message):
            return True
        inner, depth = inner.__cause__ or inner.__context__, depth + 1
    return False


def _validation(error: Any) -> ErrorMapping | None:
    try:
        partial = validation(list(error.errors()))
    except Exception:  # a broken list of errors is still a validation error
        partial = None
    status = 400 if partial is not None and partial.code == "invalid_json" else 422
    return ErrorMapping(status, complete(partial, status), source="validation", intentional=True)


def _row(row: Row, **fields: Any) -> Callable[[Any], ErrorMapping]:
    return lambda error: _of_row(row, **fields)


def _gone(error: Any) -> ErrorMapping:
    return _of_row(for_status(GONE), intentional=True)


_KEPT: Final = frozenset({400, 413, 422, 429})
"""Statuses of an upstream that are about the caller's own request."""


def _upstream(error: Any) -> ErrorMapping:
    """Map an error of a provider's SDK or of ``raise_for_status``. An upstream's 401 is not about the caller's key."""
    response = getattr(error, "response", None)
    status = _status_of(getattr(error, "status_code", None)) or _status_of(getattr(response, "status_code", None))
    sdk = hasattr(error, "body") and hasattr(error, "status_code")
    headers = {name.lower(): value for name, value in _pairs(getattr(response, "headers", None))}
    waits = tuple((name, headers[name]) for name in ("retry-after", "retry-after-ms") if name in headers)
    if status in (429, 503) or (sdk and status in _KEPT):
        found = recognise(_body_of(error), status) if sdk and status < 500 else None
        return ErrorMapping(status, complete(found if isinstance(found, PartialError) else None, status), waits)
    if status in (408, 504):
        return _of_row(PAGE["upstream_timeout"])
    return _of_row(for_status(502))


def _body_of(error: Any) -> object:
    body: Any = getattr(error, "body", None)
    members: Any = body
    return {"error": members} if isinstance(body, dict) and "error" not in members else members


def _status_of(value: Any) -> int | None:
    """An error status out of ``404``, ``"404 Not Found"`` or an ``HTTPStatus``."""
    if isinstance(value, str) and value[:3].isdigit():
        value = int(value[:3])
    if isinstance(value, HTTPStatus):
        value = int(value)
    return value if isinstance(value, int) and 400 <= value <= 599 else None


def _pairs(headers: Any) -> Iterator[tuple[str, str]]:
    items: Iterable[Any] = headers.items() if hasattr(headers, "items") else headers or ()
    for item in items:
        with suppress(TypeError, ValueError):
            name, value = item
            yield _text_of(name), _text_of(value)


def _text_of(part: object) -> str:
    return part.decode("latin-1") if isinstance(part, bytes) else str(part)


_TIMEOUT: Final = _row(PAGE["upstream_timeout"])
_UNREACHABLE: Final = _row(for_status(502))

_RULES: Final[Mapping[str, Callable[[Any], ErrorMapping | None]]] = {
    "flexmw.APIError": _api_error,
    "starlette.HTTPException": _http("status_code", "detail"),
    "litestar.HTTPException": _http("status_code", "detail"),
    "werkzeug.HTTPException": _http("code", "description", headers="_none"),
    "falcon.HTTPError": _http("status", "description"),
    "blacksheep.HTTPException": _http("status", "message", headers="_none"),
    "rest_framework.APIException": _http("status_code", "detail", headers="_none"),
    "django.Http404": _row(for_status(404), source="http_exception", intentional=True),
    "django.PermissionDenied": _row(for_status(403), source="http_exception", intentional=True),
    "django.SuspiciousOperation": _row(for_status(400), source="http_exception", intentional=True),
    "fastapi.RequestValidationError": _validation,
    "starlette.ClientDisconnect": _gone,
    "starlette.WebSocketDisconnect": _gone,
    "litestar.WebSocketDisconnect": _gone,
    "builtins.TimeoutError": _TIMEOUT,
    "trio.TooSlowError": _TIMEOUT,
    **{f"{library}.TimeoutException": _TIMEOUT for library in ("httpx", "httpx2")},
    **{f"{library}.HTTPStatusError": _upstream for library in ("httpx", "httpx2")},
    **{f"{library}.TransportError": _UNREACHABLE for library in ("httpx", "httpx2")},
    **{f"{library}.TimeoutException": _TIMEOUT for library in ("httpcore", "httpcore2")},
    **{f"{library}.NetworkError": _UNREACHABLE for library in ("httpcore", "httpcore2")},
    "aiohttp.ServerTimeoutError": _TIMEOUT,
    "aiohttp.ClientConnectionError": _UNREACHABLE,
    "requests.ConnectTimeout": _TIMEOUT,
    "requests.Timeout": _TIMEOUT,
    "requests.ConnectionError": _UNREACHABLE,
    "requests.HTTPError": _upstream,
    **{f"{sdk}.APITimeoutError": _TIMEOUT for sdk in ("openai", "anthropic", "groq")},
    **{f"{sdk}.APIStatusError": _upstream for sdk in ("openai", "anthropic", "groq")},
    **{f"{sdk}.APIConnectionError": _UNREACHABLE for sdk in ("openai", "anthropic", "groq")},
    "mistralai.MistralError": _upstream,
    "cohere.ApiError": _upstream,
}
"""The rule for each exception class, as ``package.Class``; the nearest base class wins. Names instead of imports,
because none of these libraries is required."""
