"""Validation errors: the message, code and parameter of a list of them, as pydantic and REST framework make it. Pure.

>>> validation([{"loc": ["body", "n"], "msg": "Field required", "type": "missing"}])
PartialError(message='n: Field required', type=None, code='validation_error', param='n', doc_url=None)
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from typing import Any, Final, cast

from flexmw.contract.partial import PartialError
from flexmw.contract.table import OWN
from flexmw.contract.text import message_in, object_in, one_line

__all__ = ["LISTED", "listing", "validation"]

LISTED: Final = 3
"""How many validation errors a message spells out; the message only counts the others."""

_PART: Final = 6
"""Letters and digits in a row that a message must not share with the input."""

_MAX_INPUT_CHARACTERS: Final = 16384
_MAX_LEAVES: Final = 1000
"""Bounds of the input that is compared with a message. A message about a larger input is replaced."""

_TEXTS: Final[Mapping[str, str]] = {
    "assertion_error": "The value is not valid.",
    "date_from_datetime_parsing": "Input should be a valid date or datetime",
    "date_parsing": "Input should be a valid date",
    "datetime_parsing": "Input should be a valid datetime",
    "datetime_from_date_parsing": "Input should be a valid datetime or date",
    "time_delta_parsing": "Input should be a valid timedelta",
    "time_parsing": "Input should be in a valid time format",
    "timezone_offset": "The offset of the timezone is not the expected one",
    "union_tag_invalid": "The tag is not one of the expected tags",
    "url_parsing": "Input should be a valid URL",
    "url_syntax_violation": "Input should be a valid URL",
    "uuid_parsing": "Input should be a valid UUID",
    "value_error": "The value is not valid.",
}
"""Messages by pydantic's type of an error, in place of those that may quote the input. The types are those of
the section "Validation Errors" of pydantic's documentation."""

_OWN_WORDS: Final = frozenset({"assertion_error", "value_error"})
"""Types whose message a validator of the app has written."""


def validation(errors: Sequence[Any], names: Container[str] | None = None) -> PartialError | None:
    """What a list of validation errors, as pydantic makes it, states: place and rule of each, never the input.

    Also a list of texts. JSON that cannot be parsed has the code ``invalid_json``.

    :param names: the names that the app's models have: fields, aliases and tags. Any other part of a place is a name
        that the caller has chosen, and becomes ``*``. ``None``: the names are not known, and only a part that the error
        itself calls a key or an extra member becomes ``*``.
    """
    items = [item for error in errors[:50] if (item := object_in(error))]
    if not items:
        texts = [text for item in errors[:LISTED] if (text := message_in(item))]
        return PartialError(listing(texts, len(errors))) if texts else None
    if len(items) == 1 and items[0].get("type") == "json_invalid":
        return PartialError(OWN["invalid_json"].message, code="invalid_json")
    places = [_place(item, names) for item in items]
    lines: list[str] = []
    for item, place in zip(items[:LISTED], places, strict=False):
        text = message_in(_text_of(item)) or "Invalid value."
        lines.append(f"{place}: {text}" if place else text)
    param = next((place for place in places if place), None)
    return PartialError(listing(lines, len(errors)), code="validation_error", param=param)


def _text_of(error: dict[str, Any]) -> object:
    """The message of a validation error. It never repeats the input.

    The words of a validator of the app stay while they share nothing with the input. Other types whose message quotes
    the input have a message of their own in :data:`_TEXTS`.
    """
    message, kind = error.get("msg"), error.get("type")
    if not isinstance(message, str):
        return message
    text = _TEXTS.get(kind) if isinstance(kind, str) else None
    if kind == "union_tag_invalid":
        tags = object_in(error.get("ctx")).get("expected_tags")
        return f"{text}: {tags}" if isinstance(tags, str) else text
    if text is not None and kind not in _OWN_WORDS:
        return text
    if "input" not in error:
        return message
    is_fixed = isinstance(kind, str) and kind in _FIXED
    return message if is_fixed or not _shares(message, error["input"]) else text or "Invalid value."


_FIXED: Final = frozenset(
    """bool_parsing bool_type bytes_type dict_type enum extra_forbidden finite_number float_parsing float_type
    frozen_field greater_than greater_than_equal int_from_float int_parsing int_parsing_size int_type json_type
    less_than less_than_equal list_type literal_error mapping_type missing missing_argument model_attributes_type
    model_type multiple_of none_required set_type string_pattern_mismatch string_too_long string_too_short string_type
    too_long too_short tuple_type union_tag_not_found url_scheme url_too_long url_type uuid_type uuid_version""".split()  # noqa: SIM905
)
"""Types whose message consists of fixed words and of what the model says. An input may hold the same by chance."""


def _shares(message: str, value: object) -> bool:
    """True if a message repeats a part of an input: a value, a name of a member, or six letters in a row."""
    leaves = _leaves(value)
    if leaves is None:
        return True
    plain = _plain(message)
    words = set(_WORD.findall(message.casefold()))
    parts = {plain[start : start + _PART] for start in range(len(plain) - _PART + 1)}
    for leaf in leaves:
        text = _plain(leaf)
        if leaf.casefold() in words and len(leaf) > 1:
            return True
        if any(text[start : start + _PART] in parts for start in range(len(text) - _PART + 1)):
            return True
    return False


def _leaves(value: object) -> list[str] | None:
    """The texts and numbers of an input, names of members included; ``None`` if they are more than are compared."""
    leaves: list[str] = []
    pending, left = [value], _MAX_INPUT_CHARACTERS
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            members: dict[Any, Any] = item
            pending += (*members.keys(), *members.values())
        elif isinstance(item, (list, tuple)):
            pending += cast("Sequence[Any]", item)
        elif isinstance(item, str) or (isinstance(item, (int, float)) and not isinstance(item, bool)):
            leaf = str(item)
            left -= len(leaf)
            leaves.append(leaf)
        if left < 0 or len(leaves) + len(pending) > _MAX_LEAVES:
            return None
    return leaves


_WORD: Final = re.compile(r"\w+")


def _plain(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def _place(error: dict[str, Any], names: Container[str] | None) -> str | None:
    """``("body", "messages", 0, "content")`` as ``messages[0].content``; names that the caller has chosen as ``*``."""
    loc = error.get("loc")
    parts = (
        list(cast("Sequence[Any]", loc)) if isinstance(loc, (tuple, list)) else [loc] if isinstance(loc, str) else []
    )
    if parts and parts[0] in ("body", "query", "path", "header", "cookie"):
        parts = parts[1:]
    parts = parts[:12]
    last = len(parts) - 1
    path = ""
    for index, part in enumerate(parts):
        if isinstance(part, int):
            path += f"[{part}]"
            continue
        foreign = names is not None and str(part) not in names
        is_extra = index == last and error.get("type") in ("extra_forbidden", "unexpected_keyword_argument")
        is_key = index < last and parts[index + 1] == "[key]"
        if part != "[key]":
            shown = "*" if foreign or is_extra or is_key else str(part)
            path += f".{shown}" if path else shown
    return one_line(path, 120) or None


def listing(texts: Sequence[str], total: int) -> str:
    shown = "; ".join(text[:320] for text in texts[:LISTED])
    return shown if total <= LISTED else f"{shown} (+{total - LISTED} more)"
