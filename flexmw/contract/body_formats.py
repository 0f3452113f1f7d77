"""Error body formats: the fields that an error body of each framework, provider and protocol states. Pure.

One reader for each shape of a JSON value, in the order of :data:`_READERS`; the first that finds something counts.

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
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import Any, Final, Literal, TypeAlias, cast

from flexmw.contract.members import CONTRACT_FIELDS, TRACE, other_members
from flexmw.contract.partial import PartialError
from flexmw.contract.protocols import value_names_protocol
from flexmw.contract.table import for_status
from flexmw.contract.text import (
    array_in,
    code_in,
    first_of,
    lower,
    message_in,
    object_in,
    param_in,
    slug_in,
    text_in,
)
from flexmw.contract.validation import LISTED, listing, validation

__all__ = ["FOREIGN", "TAKEN", "Found", "of_text", "recognise", "siblings"]


class _Foreign(Enum):
    FOREIGN = "foreign"


FOREIGN: Final = _Foreign.FOREIGN
"""Marks an error of another protocol, by :mod:`flexmw.contract.protocols`. It must reach its clients unchanged."""


Found: TypeAlias = PartialError | Literal[_Foreign.FOREIGN] | None

_HTML: Final = re.compile(r"\s*(?:<!doctype html|<html|<head|<body|<h1|<title|<\?xml)", re.IGNORECASE)
_WERKZEUG: Final = re.compile(
    r"<!doctype html>\s*<html lang=en>\s*<title>\d{3} [^<]{1,60}</title>\s*"
    r"<h1>[^<]{1,60}</h1>\s*<p>([^<]{1,2000})</p>\s*",
    re.IGNORECASE,
)
_SANIC: Final = re.compile(r"\W{0,8}\d{3} \u2014 [^\n]{1,80}\n=+\n(.+)", re.DOTALL)
"""Sanic's text: a title of the status, a line of ``=``, the message."""


def recognise(value: object, status: int) -> Found:
    """What a JSON value states as an error body; ``None`` if it states nothing."""
    if value_names_protocol(value):
        return FOREIGN
    for reader in _READERS:
        found = reader(value, status)
        if found is not None:
            return found
    return None


def _nested(value: Any, status: int) -> Found:
    """``{"error": {...}}`` of OpenAI, vLLM, Google, Anthropic; Google also sends a list of one."""
    items = array_in(value)
    outer = object_in(items[0] if len(items) == 1 else value)
    error = object_in(outer.get("error"))
    found = _flat(error, status) or _titled(error, status)
    if not isinstance(found, PartialError):
        return found
    return replace(found, members=other_members(error, taken=CONTRACT_FIELDS), siblings=siblings(outer))


def siblings(value: dict[str, Any]) -> dict[str, Any]:
    """The members beside ``error`` that an app has added."""
    return other_members(value, taken=("error",))


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
    own_code = code or _code_named(lower(value.get("status"))) or _code_named(text_in(value.get("error")))
    return PartialError(
        message, slug_in(kind), own_code, param_in(param), text_in(value.get("doc_url")), _others(value)
    )


def _code_named(value: object) -> str | None:
    """A code where an API may as well write that the request failed: ``{"status": "error"}`` (JSend) names no code."""
    code = slug_in(value)
    return None if code in _FAILED else code


def _others(value: dict[str, Any]) -> dict[str, Any]:
    """The members of a flat error body that no field of the contract states already."""
    return other_members(value, taken=TAKEN)


def _detail(value: Any, status: int) -> Found:
    """FastAPI's and REST framework's ``{"detail": ...}``, and problem details (RFC 9457); Litestar adds ``extra``."""
    value = object_in(value)
    if "detail" not in value:
        return None
    detail = value["detail"]
    if items := array_in(detail):
        return validation(items)
    if inner := object_in(detail):
        found = recognise(inner, status)
        found = _flat(inner, status) if found is FOREIGN else found
        return found if found is not None else PartialError(members=_others(inner))
    extra = [object_in(item) for item in array_in(value.get("extra"))]
    listed = validation([_litestar_item(item) for item in extra])
    if listed is not None and (listed.param or str(detail).startswith("Validation failed for ")):
        return listed
    code = code_in(value.get("code"), status) or _code_named(text_in(value.get("error")))
    message = message_in(detail) or message_in(value.get("title"))
    return PartialError(message, code=code, members=_others(value)) if message or code else None


def _litestar_item(item: dict[str, Any]) -> dict[str, Any]:
    """An item of Litestar's ``extra`` as a validation error. A part of the request that is missing has the ``repr`` of
    its name as its message."""
    key, message = item.get("key") or "", item.get("message")
    return {"loc": ("body", key), "msg": "Field required" if message == repr(key) else message}


def _text_error(value: Any, status: int) -> Found:
    """``{"error": "text"}``, and ``{"error": true, "message": ...}`` through the reader after it.

    A text that is a name with an underscore (``no_credit``) is a code, any other text is a message.
    """
    error = object_in(value).get("error")
    if not isinstance(error, str):
        return None
    longer = _flat(value, status)
    if isinstance(longer, PartialError) and longer.message:
        return longer
    if "_" in error and slug_in(error):
        return PartialError(code=error, members=_others(value))
    return PartialError(message_in(error), members=_others(value))


def _listed(value: Any, status: int) -> Found:
    """``{"errors": [...]}`` of texts or objects. The list stays as a member, unless it is pydantic's."""
    errors = object_in(value).get("errors", value)
    if isinstance(errors, dict):
        return _fields(cast("Any", errors), status) if errors is not value else None
    items = array_in(errors)
    objects = [item for element in items if (item := object_in(element))]
    if objects and all("loc" in item and "msg" in item for item in objects):
        return validation(objects)
    texts = [
        text
        for item in items
        if (text := message_in(item) or message_in(first_of(item, ("message", "detail", "msg", "title"))))
    ]
    if not texts:
        return None
    first = objects[0] if objects else {}
    members = _others(object_in(value))
    return PartialError(listing(texts, len(items)), code=code_in(first.get("code"), status), members=members)


def _titled(value: Any, status: int) -> Found:
    """Falcon's ``{"title", "description"}``, and problems without a detail."""
    text = message_in(first_of(value, ("description", "detail", "title", "reason")))
    if not text:
        return None
    return PartialError(text, code=code_in(object_in(value).get("code"), status), members=_others(value))


def _fields(value: Any, status: int) -> Found:
    """REST framework's ``{"field": ["message"]}``."""
    fields = {name: array_in(texts) for name, texts in object_in(value).items()}
    if not fields or not all(texts and all(isinstance(text, str) for text in texts) for texts in fields.values()):
        return None
    return validation([{"loc": ("body", name), "msg": text} for name, texts in fields.items() for text in texts])


_FAILED: Final = frozenset({"error", "fail", "failed", "failure"})
_MESSAGES: Final = ("message", "msg", "error_message", "errorMessage", "Message")
TAKEN: Final = CONTRACT_FIELDS | frozenset(
    """msg error_message errorMessage Message error error_code detail title description reason status statusCode
    status_code""".split()  # noqa: SIM905
)
"""Members of a flat error body that state a field of the contract, or repeat the status."""

_READERS: Final[tuple[Callable[[Any, int], Found], ...]] = (
    _nested,
    _detail,
    _text_error,
    _flat,
    _listed,
    _titled,
    _fields,
)


def of_text(text: str, status: int = 500) -> PartialError | None:
    """What a text states: its own words, unless it is an HTML page, a traceback or binary.

    A 4xx page of werkzeug (Quart) states the description of its exception, and nothing else. A text of Sanic states
    what stands below its title.
    """
    page = _WERKZEUG.fullmatch(text) if status < 500 else None
    if titled := _SANIC.fullmatch(text):
        text = titled[1]
    if page is not None:
        text = html.unescape(page[1])
    elif _HTML.match(text) or "\0" in text or TRACE.search(text):
        return None
    message = message_in(text)
    return PartialError(_without_phrase(message, status)) if message else None


def _without_phrase(message: str, status: int) -> str:
    """A message without the phrase of its status in front, which BlackSheep writes: ``Bad Request: n is missing``."""
    row = for_status(status)
    phrase, colon, rest = message.partition(": ")
    return rest if colon and rest and phrase.lower() in (f"{status}", row.message.rstrip(".").lower()) else message
