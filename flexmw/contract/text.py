"""The pieces that error bodies are made of: what may be shown of a text, a code, a name. Pure.

>>> message_in("404: Not Found") is None, message_in("No such job.")
(True, 'No such job.')
>>> code_in(404, 404) is None, code_in("E-17", 404)
(True, 'E-17')
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final, TypeGuard

from flexmw.contract import redact

__all__ = [
    "array_in",
    "code_in",
    "first_of",
    "lower",
    "message_in",
    "object_in",
    "one_line",
    "param_in",
    "slug_in",
    "text_in",
]

MESSAGE_LIMIT: Final = 2000
"""Characters of a message on the wire: enough for any sentence, too little for a document."""

_PHRASES: Final = frozenset(status.phrase.lower() for status in HTTPStatus)
_GENERIC: Final = frozenset({"error", "server error", "unknown error", "an error occurred", "none", "null", ""})
_SLUG: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_CODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
_SPACE: Final = re.compile(r"[\s\x00-\x1f\x7f]+")


def one_line(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """A text that is safe to show: one line, bounded, without secrets."""
    return redact(_SPACE.sub(" ", text[: limit + 1]).strip(), limit=limit)


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_array(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def object_in(value: object) -> dict[str, Any]:
    """A JSON object; anything else as an empty one."""
    return value if _is_object(value) else {}


def array_in(value: object) -> list[Any]:
    """A JSON array; anything else as an empty one."""
    return value if _is_array(value) else []


def text_in(value: object) -> str | None:
    """A text that is not empty, safe to show."""
    return one_line(value) or None if isinstance(value, str) else None


def message_in(value: object) -> str | None:
    """A text that says more than the status does."""
    text = text_in(value)
    if text is None:
        return None
    plain = re.sub(r"^\d{3}\s*[:-]?\s*", "", text).rstrip(".!").lower()
    return None if plain in _PHRASES or plain in _GENERIC or text.startswith(("{", "<")) else text


def first_of(value: object, names: Sequence[str]) -> object:
    """The first of an object's members that says anything."""
    mapping = object_in(value)
    return next((mapping[name] for name in names if mapping.get(name)), None)


def lower(value: object) -> object:
    """A text in lower case; ``None`` for anything else."""
    return value.lower() if isinstance(value, str) else None


def slug_in(value: object) -> str | None:
    """A name in lower case, as the contract's types and codes are."""
    return value if isinstance(value, str) and _SLUG.fullmatch(value) and value not in ("none", "null") else None


def code_in(value: object, status: int) -> str | None:
    """A code that says more than the status does."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    code = str(value)
    return code if _CODE.fullmatch(code) and code not in ("None", "null", str(status)) else None


def param_in(value: object) -> str | None:
    """The name of a parameter."""
    text = text_in(value)
    return None if text in ("None", "null") else text
