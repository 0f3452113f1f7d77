"""Validation errors: the message, code and parameter of a list of them, as pydantic and REST framework make it. Pure.

>>> validation([{"loc": ["body", "n"], "msg": "Field required", "type": "missing"}])
PartialError(message='n: Field required', type=None, code='validation_error', param='n', doc_url=None)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from flexmw.contract.partial import PartialError
from flexmw.contract.table import OWN
from flexmw.contract.text import message_in, object_in, one_line

__all__ = ["LISTED", "listing", "validation"]

LISTED: Final = 3
"""How many validation errors a message spells out; the message only counts the others."""

_SHORTEST_INPUT: Final = 4
"""Characters of an input that a message does not repeat. A shorter input may be in the message by chance."""


def validation(errors: Sequence[Any]) -> PartialError | None:
    """What a list of validation errors, as pydantic makes it, states: place and rule of each, never the input.

    Also a list of texts. JSON that cannot be parsed has the code ``invalid_json``.
    """
    items = [item for each in errors[:50] if (item := object_in(each))]
    if not items:
        texts = [text for item in errors[:LISTED] if (text := message_in(item))]
        return PartialError(listing(texts, len(errors))) if texts else None
    if len(items) == 1 and items[0].get("type") == "json_invalid":
        return PartialError(OWN["invalid_json"].message, code="invalid_json")
    places = [_place(item.get("loc")) for item in items]
    lines: list[str] = []
    for item, place in zip(items[:LISTED], places, strict=False):
        text = message_in(_without_input(item)) or "Invalid value."
        lines.append(f"{place}: {text}" if place else text)
    param = next((place for place in places if place), None)
    return PartialError(listing(lines, len(errors)), code="validation_error", param=param)


def _without_input(error: dict[str, Any]) -> object:
    """The message of a validation error, without the input that some of pydantic's messages repeat."""
    message = error.get("msg")
    if not isinstance(message, str):
        return message
    context = object_in(error.get("ctx"))
    for value in (error.get("input"), context.get("tag")):
        if isinstance(value, str) and len(value) >= _SHORTEST_INPUT:
            message = message.replace(value, "***")
    return message


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


def listing(texts: Sequence[str], total: int) -> str:
    shown = "; ".join(text[:320] for text in texts[:LISTED])
    return shown if total <= LISTED else f"{shown} (+{total - LISTED} more)"
