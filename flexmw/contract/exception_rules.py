"""The rule for each exception class of each library: which error response its exceptions become. Pure.

:data:`RULES` is the table, and the functions above it read the attributes of each library's exceptions. The rules know
the libraries by name alone. :func:`flexmw.contract.exceptions.map_exception` applies them.

>>> RULES["builtins.TimeoutError"](TimeoutError("db at 10.0.0.7")).error.code
'upstream_timeout'
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from itertools import islice
from typing import Any, Final

from flexmw.contract.bodies import FOREIGN, PartialError, complete, is_own_message, of_text, recognise, validation
from flexmw.contract.error import ErrorBody
from flexmw.contract.exception_slots import chain_of
from flexmw.contract.framework_words import in_contract_words
from flexmw.contract.table import PAGE, Row, for_status
from flexmw.contract.text import contains_text_of

__all__ = ["GONE", "RULES", "ErrorMapping", "names", "of_row"]

GONE: Final = 499
"""The status of a request whose client has disconnected: for logs and metrics, never sent."""


@dataclass(frozen=True, slots=True)
class ErrorMapping:
    """The error response that an exception becomes.

    :param status: 400 to 599.
    :param error: the error object of the body.
    :param headers: the headers that the exception asks for, such as ``Retry-After``.
    :param source: one of the sources of :class:`flexmw.kit.exchange.ErrorOutcome`.
    :param intentional: True if the app raised the exception as its response (an ``APIError``, a framework's
        ``HTTPException``). Such an exception is not a crash, and Envelope does not raise it again.
    :param gone: True if the exception says that the client has disconnected. No response is sent, and ``status`` is
        :data:`GONE`. A flag instead of the status: an app may send a 499 of its own.
    :param exception: the exception that telemetry should record, if any.
    """

    status: int
    error: ErrorBody
    headers: tuple[tuple[str, str], ...] = ()
    source: str = "unhandled_exception"
    intentional: bool = False
    gone: bool = False
    exception: BaseException | None = field(default=None, compare=False)


def names(cls: type) -> Iterator[str]:
    """Yield a class and its bases as ``package.Class``; libraries move classes between their modules."""
    for base in cls.__mro__:
        yield f"{base.__module__.partition('.')[0]}.{base.__qualname__}"


def of_row(row: Row, partial: PartialError | None = None, **fields: Any) -> ErrorMapping:
    """Map an exception to a row of the contract.

    :param partial: the fields that the exception itself states; they win over those of the row.
    :param fields: further fields of :class:`ErrorMapping`.
    """
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
        partial = in_contract_words(partial, number) if partial is not None else None
        try:
            pairs = tuple(_pairs(getattr(error, headers, None)))
        except Exception:  # headers that cannot be read are no reason to change the status
            pairs = ()
        return ErrorMapping(number, complete(partial, number), pairs, "http_exception", intentional=True)

    return read


def _detail(detail: object, status: int) -> PartialError | None:
    if isinstance(detail, str):
        return of_text(detail, status)
    found = recognise({"detail": detail}, status) if detail else None
    return found if found is not FOREIGN else None


def _repeats_cause(error: BaseException, message: str) -> bool:
    """True if a message contains the text of an exception that ``error`` was raised from."""
    return any(
        "flexmw.APIError" not in names(type(inner)) and contains_text_of(inner, message)
        for inner in islice(chain_of(error), 1, None)
    )


def _validation(error: Any) -> ErrorMapping | None:
    try:
        partial = validation(list(error.errors()))
    except Exception:  # a broken list of errors is still a validation error
        partial = None
    status = 400 if partial is not None and partial.code == "invalid_json" else 422
    return ErrorMapping(status, complete(partial, status), source="validation", intentional=True)


def _row(row: Row, **fields: Any) -> Callable[[Any], ErrorMapping]:
    return lambda error: of_row(row, **fields)


def _gone(error: Any) -> ErrorMapping:
    return of_row(for_status(GONE), intentional=True, gone=True)


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
        # What stands beside the error, such as a user id, is about this app's account with the upstream.
        partial = replace(found, siblings={}) if isinstance(found, PartialError) else None
        return ErrorMapping(status, complete(partial, status), waits)
    if status in (408, 504):
        return of_row(PAGE["upstream_timeout"])
    return of_row(for_status(502))


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

RULES: Final[Mapping[str, Callable[[Any], ErrorMapping | None]]] = {
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
