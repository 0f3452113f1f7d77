"""Error body parsing: the fields that the bodies of frameworks, middleware and proxies state. Pure.

>>> recognise({"detail": "Video job not found."}, 404)
PartialError(message='Video job not found.', type=None, code=None, param=None, doc_url=None)
>>> recognise({"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "Method not found"}}, 404) is FOREIGN
True
>>> recognise({"rows": 3}, 500) is None
True
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal, TypeAlias, cast

from flexmw.contract.content import decompress, parse, value_of
from flexmw.contract.error import ErrorBody
from flexmw.contract.redact import redact
from flexmw.contract.table import OWN, for_status
from flexmw.contract.text import (
    array_in,
    code_in,
    contains_text_of,
    first_of,
    lower,
    message_in,
    object_in,
    one_line,
    param_in,
    slug_in,
    text_in,
)

__all__ = [
    "FOREIGN",
    "Found",
    "PartialError",
    "complete",
    "is_bare",
    "is_envelope",
    "is_own_message",
    "of_text",
    "read_error",
    "recognise",
    "says_nothing",
    "validation",
]

LISTED: Final = 3
"""How many validation errors a message spells out; the message only counts the others."""

_PLAIN_BYTES: Final = 1024 * 1024
"""Bytes of a compressed body that :func:`is_bare` reads."""


class _Foreign(Enum):
    FOREIGN = "foreign"


FOREIGN: Final = _Foreign.FOREIGN
"""Marks an error of another protocol (JSON-RPC, GraphQL, OAuth), which must reach its clients unchanged."""


@dataclass(frozen=True, slots=True)
class PartialError:
    """The fields of an error that a body states. :func:`complete` fills those that are ``None`` from the status."""

    message: str | None = None
    type: str | None = None
    code: str | None = None
    param: str | None = None
    doc_url: str | None = None


Found: TypeAlias = PartialError | Literal[_Foreign.FOREIGN] | None

_TRACE: Final = re.compile(r"Traceback \(most recent call last\)|\n\s*File \"[^\"\n]{1,400}\", line \d")
_HTML: Final = re.compile(r"\s*(?:<!doctype html|<html|<head|<body|<h1|<title|<\?xml)", re.IGNORECASE)
_WERKZEUG: Final = re.compile(
    r"<!doctype html>\s*<html lang=en>\s*<title>\d{3} [^<]{1,60}</title>\s*"
    r"<h1>[^<]{1,60}</h1>\s*<p>([^<]{1,2000})</p>\s*",
    re.IGNORECASE,
)
_OAUTH: Final = frozenset(
    """invalid_request invalid_client invalid_grant unauthorized_client unsupported_grant_type invalid_scope
    access_denied unsupported_response_type temporarily_unavailable authorization_pending slow_down expired_token
    invalid_token insufficient_scope invalid_redirect_uri invalid_client_metadata invalid_software_statement
    unapproved_software_statement unsupported_token_type invalid_target login_required consent_required
    interaction_required account_selection_required invalid_request_uri invalid_request_object request_not_supported
    request_uri_not_supported registration_not_supported invalid_dpop_proof use_dpop_nonce
    insufficient_user_authentication""".split()  # noqa: SIM905
)
"""The registered OAuth error codes: RFC 6749, 6750, 7009, 7591, 8628, 8707, 9449, 9470, OpenID Connect Core."""


def is_envelope(value: object) -> bool:
    """True if a JSON value is an error of the contract already, and safe to send as it is."""
    body = ErrorBody.from_json(value)
    if body is None or "None" in (body.code, body.type, body.param):
        return False
    return redact(body.message, limit=len(body.message)) == body.message


def recognise(value: object, status: int) -> Found:
    """What a JSON value states as an error body; ``None`` if it states nothing."""
    for reader in _READERS:
        found = reader(value, status)
        if found is not None:
            return found
    return None


def read_error(value: object, text: str, status: int) -> Found:
    """What a body states, as :func:`flexmw.contract.content.parse` has decoded it.

    :param value: the JSON value; ``None`` if the body is not JSON.
    :param text: the body as text.
    """
    return recognise(value, status) if value is not None else of_text(text, status)


def says_nothing(found: Found) -> bool:
    """True if a body states no more than the status does."""
    return found is None or found == PartialError()


def is_bare(headers: Iterable[tuple[bytes, bytes]], body: bytes, error: BaseException | None = None) -> bool:
    """True if the body of a 500 states no more than the status does, or repeats the text of ``error``.

    Frameworks respond to a crash with such a body and raise the crash, which then decides what the error is.

    :param headers: the response's headers.
    :param error: the exception that the app has raised.
    """
    headers = list(headers)
    plain = decompress(body, value_of(headers, b"content-encoding").strip().lower(), _PLAIN_BYTES)
    value, text = parse(plain or b"", value_of(headers, b"content-type").lower())
    if is_envelope(value):
        return False
    found = read_error(value, text, 500)
    return says_nothing(found) or (isinstance(found, PartialError) and contains_text_of(error, found.message))


def _foreign(value: Any, status: int) -> Found:
    if items := array_in(value):
        return FOREIGN if all("jsonrpc" in object_in(item) for item in items) else None
    value = object_in(value)
    errors, error = array_in(value.get("errors")), value.get("error")
    graphql = (
        bool(errors)
        and value.keys() <= {"errors", "data", "extensions"}
        and all(isinstance(object_in(item).get("message"), str) for item in errors)
    )
    oauth = isinstance(error, str) and (error in _OAUTH or "error_description" in value)
    return FOREIGN if "jsonrpc" in value or graphql or oauth else None


def _nested(value: Any, status: int) -> Found:
    """``{"error": {...}}`` of OpenAI, vLLM, Google, Anthropic; Google also sends a list of one."""
    items = array_in(value)
    return _flat(object_in(items[0] if len(items) == 1 else value).get("error"), status)


def _flat(value: Any, status: int) -> Found:
    """``{"message", "type", "code", "param"}`` of older vLLM and SGLang, and most hand-written ones."""
    value = object_in(value)
    message = next((text for key in _MESSAGES if (text := message_in(value.get(key))) is not None), None)
    if message is None and (items := array_in(value.get("message"))):
        message = message_in("; ".join(str(item)[:200] for item in items[:LISTED]))
    code = code_in(value.get("code"), status) or code_in(value.get("error_code"), status)
    kind, param = value.get("type"), value.get("param")
    if not (message or code):
        return None
    own_code = code or slug_in(lower(value.get("status"))) or slug_in(text_in(value.get("error")))
    return PartialError(message, slug_in(kind), own_code, param_in(param), text_in(value.get("doc_url")))


def _detail(value: Any, status: int) -> Found:
    """FastAPI's and REST framework's ``{"detail": ...}``; Litestar adds ``extra``."""
    value = object_in(value)
    if "detail" not in value:
        return None
    detail = value["detail"]
    if items := array_in(detail):
        return validation(items)
    if inner := object_in(detail):
        found = recognise(inner, status)
        return found if found is not FOREIGN else _flat(inner, status)
    extra = [object_in(item) for item in array_in(value.get("extra"))]
    listed = validation([{"loc": ("body", item.get("key") or ""), "msg": item.get("message")} for item in extra])
    if listed is not None and listed.param:
        return listed
    code = code_in(value.get("code"), status)
    message = message_in(detail) or message_in(value.get("title"))
    return PartialError(message, code=code) if message or code else None


def _text_error(value: Any, status: int) -> Found:
    """``{"error": "text"}``, and ``{"error": true, "message": ...}`` through the reader after it."""
    error = object_in(value).get("error")
    if not isinstance(error, str):
        return None
    longer = _flat(value, status)
    if isinstance(longer, PartialError) and longer.message:
        return longer
    if "_" in error and slug_in(error):
        return PartialError(code=error)
    return PartialError(message_in(error))


def _listed(value: Any, status: int) -> Found:
    """``{"errors": [...]}`` of texts or objects."""
    errors = object_in(value).get("errors", value)
    if isinstance(errors, dict):
        return _fields(cast("Any", errors), status) if errors is not value else None
    items = array_in(errors)
    texts = [
        text
        for item in items
        if (text := message_in(item) or message_in(first_of(item, ("message", "detail", "msg", "title"))))
    ]
    return PartialError(_listing(texts, len(items))) if texts else None


def _titled(value: Any, status: int) -> Found:
    """Falcon's ``{"title", "description"}``, and problems without a detail."""
    text = message_in(first_of(value, ("description", "title", "reason")))
    return PartialError(text, code=code_in(object_in(value).get("code"), status)) if text else None


def _fields(value: Any, status: int) -> Found:
    """REST framework's ``{"field": ["message"]}``."""
    fields = {name: array_in(texts) for name, texts in object_in(value).items()}
    if not fields or not all(texts and all(isinstance(text, str) for text in texts) for texts in fields.values()):
        return None
    return validation([{"loc": ("body", name), "msg": text} for name, texts in fields.items() for text in texts])


_MESSAGES: Final = ("message", "msg", "error_message", "errorMessage", "Message")
_READERS: Final[tuple[Callable[[Any, int], Found], ...]] = (
    _foreign,
    _nested,
    _detail,
    _text_error,
    _flat,
    _listed,
    _titled,
    _fields,
)


def validation(errors: Sequence[Any]) -> PartialError | None:
    """What a list of validation errors, as pydantic makes it, states: place and rule of each, never the input.

    Also a list of texts. JSON that cannot be parsed has the code ``invalid_json``.
    """
    items = [item for each in errors[:50] if (item := object_in(each))]
    if not items:
        texts = [text for item in errors[:LISTED] if (text := message_in(item))]
        return PartialError(_listing(texts, len(errors))) if texts else None
    if len(items) == 1 and items[0].get("type") == "json_invalid":
        return PartialError(OWN["invalid_json"].message, code="invalid_json")
    places = [_place(item.get("loc")) for item in items]
    lines: list[str] = []
    for item, place in zip(items[:LISTED], places, strict=False):
        text = message_in(item.get("msg")) or "Invalid value."
        lines.append(f"{place}: {text}" if place else text)
    param = next((place for place in places if place), None)
    return PartialError(_listing(lines, len(errors)), code="validation_error", param=param)


def _place(loc: object) -> str | None:
    """``("body", "messages", 0, "content")`` as ``messages[0].content``."""
    parts = (
        list(cast("Sequence[Any]", loc)) if isinstance(loc, (tuple, list)) else [loc] if isinstance(loc, str) else []
    )
    if parts and parts[0] in ("body", "query", "path", "header", "cookie"):
        parts = parts[1:]
    path = ""
    for part in parts[:12]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return one_line(path, 120) or None


def _listing(texts: Sequence[str], total: int) -> str:
    shown = "; ".join(text[:320] for text in texts[:LISTED])
    return shown if total <= LISTED else f"{shown} (+{total - LISTED} more)"


def of_text(text: str, status: int = 500) -> PartialError | None:
    """What a text states: its own words, unless it is an HTML page, a traceback or binary.

    A 4xx page of werkzeug (Quart) states the description of its exception, and nothing else.
    """
    page = _WERKZEUG.fullmatch(text) if status < 500 else None
    if page is not None:
        text = html.unescape(page[1])
    elif _HTML.match(text) or "\0" in text or _TRACE.search(text):
        return None
    message = message_in(text)
    return PartialError(message) if message else None


def complete(partial: PartialError | None, status: int) -> ErrorBody:
    """Fill the fields that a body does not state from the status."""
    row = for_status(status)
    partial = partial or PartialError()
    code = None if partial.code == "validation_error" and status not in (400, 422) else partial.code
    return ErrorBody(
        message=partial.message or row.message,
        type=partial.type or row.type,
        code=code or row.code,
        param=partial.param,
        doc_url=partial.doc_url,
        placeholders={} if not partial.message or is_own_message(partial) else None,
    )


def is_own_message(partial: PartialError) -> bool:
    """True if a message is one of flexmw's own, and not one that the body states."""
    row = OWN.get(partial.code or "")
    return row is not None and row.message == partial.message
