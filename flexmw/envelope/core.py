"""Error response decision: send an error response of the app unchanged, or write a new one. Pure.

>>> response = AppResponse(404, ((b"content-type", b"text/plain"),), b"Not Found")
>>> decision = decide(response, Rules())
>>> decision.status, decision.error.code, decision.kept
(404, 'not_found', False)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flexmw.contract import OWN, ErrorBody
from flexmw.contract.bodies import (
    FOREIGN,
    PartialError,
    complete,
    in_own_words,
    is_envelope,
    read_response,
    says_nothing,
)
from flexmw.contract.error_headers import describes_body
from flexmw.contract.exceptions import ErrorMapping, map_exception, stands_for
from flexmw.contract.framework_words import in_contract_words
from flexmw.contract.messages import reword
from flexmw.contract.text import array_in, contains_text_of, message_in, object_in
from flexmw.contract.validation import validation
from flexmw.errors import APIError

__all__ = [
    "AppResponse",
    "ErrorResponse",
    "Header",
    "Rules",
    "decide",
    "error_status",
    "fresh_headers",
    "response_to",
]

Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The options that the decision depends on; see :class:`flexmw.envelope.Envelope`.

    :param keeps: returns True for a JSON value that is an error in one of the dialects.
    :param max_body: bytes.
    """

    keeps: Callable[[object], bool] = is_envelope
    max_body: int = 65536
    timeout_status: int = 500
    validation_status: int | None = None
    debug: bool = False
    messages: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AppResponse:
    """An error response of the app.

    :param body: ``None`` if the body is longer than may be read.
    :param unrouted: True if no route of the app has matched the request.
    :param is_form: True if the body of the request is a form.
    :param standing_text: the text that the framework writes for the status if the app gives none.
    :param settled: True if another component of flexmw made the response, which then keeps the contract.
    :param names: the field names of the models of the request's route; ``None`` if they are not known.
    """

    status: int
    headers: tuple[Header, ...] = ()
    body: bytes | None = b""
    unrouted: bool = False
    is_form: bool = False
    standing_text: str | None = None
    settled: bool = False
    names: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """The error response to send.

    :param source: one of the sources of :class:`flexmw.kit.exchange.ErrorOutcome`.
    :param kept: True if the app's body goes out unchanged.
    :param generic: True if only the status of the error is known.
    :param headers: the headers of the exception.
    :param exception: the exception that telemetry records, if there is one.
    """

    status: int
    error: ErrorBody
    source: str
    kept: bool = False
    generic: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    exception: BaseException | None = field(default=None, compare=False)


def error_status(status: Any) -> int:
    """Return the status if it is valid in HTTP (100 to 599); else 500, because the app's response cannot be sent."""
    return status if isinstance(status, int) and not isinstance(status, bool) and 100 <= status <= 599 else 500


def decide(
    response: AppResponse, rules: Rules, *, mapping: ErrorMapping | None = None, remembered: APIError | None = None
) -> ErrorResponse:
    """Decide which response is sent for an error response of the app.

    :param mapping: the mapping of the exception that the app is handling, if it is known. The mapping decides if the
        app's response is a 500 without words; otherwise the words of the app stay.
    :param remembered: the last ``APIError`` that the app made, for frameworks that swallow exceptions.
    """
    read = read_response(response.headers, response.body, response.status, max_plain=rules.max_body)
    if rules.keeps(read.value) or (response.settled and ErrorBody.from_json(read.value) is not None):
        return _kept(response, read.value)
    if read.found is FOREIGN or (rules.debug and response.status == 500 and "Traceback" in read.text):
        return _kept(response, None)
    partial = _stated(response, read.found) if isinstance(read.found, PartialError) else None
    if partial is not None and partial.code == "validation_error" and response.names is not None:
        listed = validation(array_in(object_in(read.value).get("detail")), response.names)
        if listed is not None:
            partial = replace(partial, message=listed.message, param=listed.param)
    return _rewritten(response, partial, rules, mapping, remembered)


def _stated(response: AppResponse, partial: PartialError) -> PartialError:
    """Return the fields of the app's error, without the text that the framework writes by itself."""
    if partial.message and partial.message == message_in(response.standing_text):
        return replace(partial, message=None)
    return in_contract_words(partial, response.status, is_form=response.is_form)


def _rewritten(
    response: AppResponse,
    partial: PartialError | None,
    rules: Rules,
    mapping: ErrorMapping | None,
    remembered: APIError | None,
) -> ErrorResponse:
    generic = says_nothing(partial)
    if generic and response.status == 500 and mapping is not None:
        return response_to(mapping)
    if remembered is not None and stands_for(remembered.status, response.status, says_nothing=generic):
        made = response_to(map_exception(remembered, messages=rules.messages))
        return replace(made, error=in_own_words(made.error, remembered.body, partial, response.status))
    status, source, exception = response.status, "foreign_body", None
    if mapping is not None and (mapping.intentional or status >= 500):
        source, exception = mapping.source, mapping.exception
    if status >= 500 and partial is not None:
        partial = _without_crash(partial, mapping)
    if partial is not None and partial.code in ("invalid_json", "validation_error"):
        source = "validation"
        if status == 422:
            status = 400 if partial.code == "invalid_json" else rules.validation_status or 422
    if generic and response.unrouted and status == 404:
        partial = PartialError(OWN["unknown_url"].message, code="unknown_url")
    error = reword(complete(partial, status), rules.messages)
    return ErrorResponse(status, error, source, generic=generic, exception=exception)


def _without_crash(partial: PartialError, mapping: ErrorMapping | None) -> PartialError:
    """Return the fields of a 5xx without the text of the exception that the app is handling, and without further
    members.

    Below 500 the app's words stay, even if they are the text of an exception: a registered handler has chosen them.
    """
    if mapping is None or mapping.intentional:
        return partial
    message = None if contains_text_of(mapping.exception, partial.message) else partial.message
    return replace(partial, message=message, members={}, siblings={})


def response_to(mapping: ErrorMapping) -> ErrorResponse:
    """The error response of an exception."""
    return ErrorResponse(
        mapping.status, mapping.error, mapping.source, headers=mapping.headers, exception=mapping.exception
    )


def _kept(response: AppResponse, value: object) -> ErrorResponse:
    error = ErrorBody.from_json(value)
    return ErrorResponse(response.status, error or complete(None, response.status), "passthrough", kept=True)


def fresh_headers(headers: Iterable[Header], *, status: int, media_type: str, length: int) -> list[Header]:
    """Return the headers of a response whose body is replaced. Headers that do not describe the body stay, in order,
    with duplicates.

    :param length: the length of the new body, in bytes.
    """
    kept = [(name, value) for name, value in headers if not describes_body(name.lower(), status)]
    return [(b"content-type", media_type.encode("latin-1")), (b"content-length", str(length).encode()), *kept]
