"""What becomes of an error response: kept, or written anew. Pure: values in, decision out.

>>> rules = Rules()
>>> seen = AppResponse(404, ((b"content-type", b"text/plain"),), b"Not Found")
>>> reply = decide(seen, rules)
>>> reply.status, reply.error.code, reply.kept
(404, 'not_found', False)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from flexmw.contract import PAGE, STATUS, ErrorBody, for_status
from flexmw.contract.bodies import FOREIGN, PartialError, complete, is_envelope, of_text, recognise
from flexmw.contract.exceptions import ErrorMapping, map_exception
from flexmw.envelope.content import decompress, parse
from flexmw.errors import APIError

__all__ = [
    "AppResponse",
    "ErrorResponse",
    "Header",
    "Rules",
    "decide",
    "error_status",
    "fresh_headers",
    "is_of_body",
    "response_to",
    "should_retry",
]

Header = tuple[bytes, bytes]

_BODY_HEADERS: Final = frozenset(
    b"content-length content-type content-encoding content-language content-md5 content-digest repr-digest digest"
    b" content-disposition content-location transfer-encoding etag last-modified accept-ranges content-range"
    b" trailer".split()
)
"""Headers that describe a body, and are wrong once it is another (RFC 9110 section 8, RFC 9530)."""

_FOREIGN_TYPES: Final = ("application/grpc", "application/vnd.api+json", "application/graphql", "application/soap")
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
"""RFC 9110 section 9.2.2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The options that the decision depends on; see :class:`flexmw.envelope.Envelope`."""

    keeps: Callable[[object], bool] = is_envelope
    max_body: int = 65536
    timeout_status: int = 500
    validation_status: int | None = None
    debug: bool = False


@dataclass(frozen=True, slots=True)
class AppResponse:
    """An error response of the host. ``body`` is ``None`` when it was larger than may be read; ``unrouted`` says that
    no route has matched the request; ``settled`` that another component has answered in the contract's shape."""

    status: int
    headers: tuple[Header, ...] = ()
    body: bytes | None = b""
    unrouted: bool = False
    settled: bool = False


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """The decision. ``kept``: the body goes out as it came. ``generic``: nothing but the status was known."""

    status: int
    error: ErrorBody
    source: str
    kept: bool = False
    generic: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    exception: BaseException | None = field(default=None, compare=False)


def error_status(status: Any) -> int:
    """A status as HTTP knows it: what no server can send is a fault of the host, 500."""
    return status if isinstance(status, int) and not isinstance(status, bool) and 100 <= status <= 599 else 500


def decide(
    seen: AppResponse, rules: Rules, *, mapping: ErrorMapping | None = None, remembered: APIError | None = None
) -> ErrorResponse:
    """What an error response becomes.

    :param mapping: of the exception that is being answered, where it is known. It decides when the host's answer says
        nothing but 500; otherwise the host's own words stand.
    :param remembered: the last ``APIError`` that the host made, for hosts that swallow exceptions.
    """
    kind = _value_of(seen.headers, b"content-type").decode("latin-1").lower()
    encoding = _value_of(seen.headers, b"content-encoding").decode("latin-1").strip().lower()
    plain = None if seen.body is None else decompress(seen.body, encoding, rules.max_body)
    value, text = parse(plain or b"", kind)
    if kind.startswith(_FOREIGN_TYPES):
        return _kept(seen, None)
    if rules.keeps(value) or (seen.settled and ErrorBody.from_json(value) is not None):
        return _kept(seen, value)
    if rules.debug and seen.status == 500 and "Traceback" in text:
        return _kept(seen, None)
    found = recognise(value, seen.status) if value is not None else of_text(text, seen.status)
    if found is FOREIGN:
        return _kept(seen, None)
    partial = found if isinstance(found, PartialError) else None
    return _rewritten(seen, partial, rules, mapping, remembered)


def _rewritten(
    seen: AppResponse,
    partial: PartialError | None,
    rules: Rules,
    mapping: ErrorMapping | None,
    remembered: APIError | None,
) -> ErrorResponse:
    says_nothing = partial is None or partial == PartialError()
    if says_nothing and seen.status == 500 and mapping is not None:
        return response_to(mapping)
    if remembered is not None and (remembered.status == seen.status or (says_nothing and seen.status == 500)):
        return response_to(map_exception(remembered))
    if partial is not None and mapping is not None and not mapping.intentional and _tells(mapping.exception, partial):
        partial = None
    source, exception = "foreign_body", None
    if mapping is not None and (mapping.intentional or seen.status >= 500):
        source, exception = mapping.source, mapping.exception
    status = seen.status
    if partial is not None and partial.code in ("invalid_json", "validation_error"):
        source = "validation"
        if status == 422:
            status = 400 if partial.code == "invalid_json" else rules.validation_status or 422
    if says_nothing and seen.unrouted and status == 404:
        partial = PartialError("Unknown URL: no route has this path.", code="unknown_url")
    return ErrorResponse(status, complete(partial, status), source, generic=says_nothing, exception=exception)


def response_to(mapping: ErrorMapping) -> ErrorResponse:
    """An exception's own answer."""
    return ErrorResponse(
        mapping.status, mapping.error, mapping.source, headers=mapping.headers, exception=mapping.exception
    )


def _kept(seen: AppResponse, value: object) -> ErrorResponse:
    error = ErrorBody.from_json(value)
    return ErrorResponse(seen.status, error or complete(None, seen.status), "passthrough", kept=True)


def _tells(exception: BaseException | None, partial: PartialError) -> bool:
    """Whether a message carries the text of an exception that nobody meant to show."""
    text = " ".join(str(exception).split())[:200] if exception is not None else ""
    return len(text) >= 4 and partial.message is not None and text in partial.message


def is_of_body(name: bytes, status: int) -> bool:
    """Whether a header (in lower case) describes the body, so that it is wrong once the body is another."""
    return name in _BODY_HEADERS and not (status == 416 and name == b"content-range")


def fresh_headers(headers: Iterable[Header], *, status: int, media_type: str, length: int) -> list[Header]:
    """The headers of an answer whose body was replaced: all others stay, in order, duplicates included."""
    kept = [(name, value) for name, value in headers if not is_of_body(name.lower(), status)]
    return [(b"content-type", media_type.encode("latin-1")), (b"content-length", str(length).encode()), *kept]


def should_retry(error: ErrorBody, status: int, *, method: str, keyed: bool, waits: bool) -> bool | None:
    """The value of ``x-should-retry``, which OpenAI's SDKs obey; ``None`` says nothing.

    An ambiguous failure of a request that is neither idempotent nor carries a key must not be sent again: the work
    may have been done. :param waits: whether the answer names a time to come back; a conflict that does will pass.
    """
    row = next(
        (row for row in (*PAGE.values(), *STATUS.values()) if (row.code, row.status) == (error.code, status)), None
    )
    rule = (row or for_status(status)).retry
    if "insufficient_quota" in (error.type, error.code):
        return False
    if rule == "never":
        return None if waits and status == 409 else False
    return False if rule == "keyed" and method not in _IDEMPOTENT and not keyed else None


def _value_of(headers: Iterable[Header], name: bytes) -> bytes:
    return next((value for key, value in headers if key.lower() == name), b"")
