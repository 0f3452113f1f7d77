"""Sanitising: what of a text, a code or a name in an error body may be shown to a caller. Pure.

>>> message_in("404: Not Found") is None, message_in("No such job.")
(True, 'No such job.')
>>> code_in(404, 404) is None, code_in("E-17", 404)
(True, 'E-17')
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final, TypeGuard

from flexmw.contract.redact import redact

__all__ = [
    "array_in",
    "code_in",
    "contains_text_of",
    "first_of",
    "lower",
    "message_in",
    "object_in",
    "one_line",
    "param_in",
    "slug_in",
    "text_in",
]

_COMPARED: Final = 200
"""Characters of an exception's text that are compared with a message."""

_SHORTEST_TEXT: Final = 4
"""Letters of an exception's text that can be recognised in a message."""

_SHORTEST_PART: Final = 12
"""Letters of a message that can be recognised as a part of an exception's text."""

MESSAGE_LIMIT: Final = 2000
"""Characters of a message on the wire: enough for any sentence, too little for a document."""

_PHRASES: Final = frozenset(status.phrase.lower() for status in HTTPStatus)
_SANIC_CRASH: Final = "the application encountered an unexpected error and could not continue"
_GENERIC: Final = frozenset(
    {"error", "server error", "unknown error", "an error occurred", "none", "null", "", _SANIC_CRASH}
)
_SLUG: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_CODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
_SPACE: Final = re.compile(r"[\s\x00-\x1f\x7f]+")


def contains_text_of(error: BaseException | None, message: str | None) -> bool:
    """True if a message contains the text of an exception, which was written for a log and not for a caller.

    Only letters and digits are compared, without case and after secrets are masked: a message may be cleaned, quoted or
    in capitals. The text, the arguments and the ``repr`` of the exception count, each by its first 200 characters; so
    does a message that is a part of the text. A text of less than four characters may be in the message by chance and
    does not count.
    """
    if error is None or message is None:
        return False
    plain = _plain(message)
    for text in _texts_of(error):
        if len(text) >= _SHORTEST_TEXT and (text in plain or (len(plain) >= _SHORTEST_PART and plain in text)):
            return True
    return False


def _texts_of(error: BaseException) -> Iterator[str]:
    """The texts of an exception. A text is left out if the method of the exception that makes it raises."""
    for text in (str, repr, _arguments):
        with suppress(Exception):
            parts = text(error)
            for part in [parts] if isinstance(parts, str) else parts:
                yield _plain(part[:_COMPARED])


def _arguments(error: BaseException) -> list[str]:
    return [part for part in error.args if isinstance(part, str)]


def _plain(text: str) -> str:
    return "".join(filter(str.isalnum, redact(text, limit=MESSAGE_LIMIT).casefold()))


def one_line(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """Make a text safe to show: one line, at most ``limit`` characters, without secrets."""
    return redact(_SPACE.sub(" ", text[: limit + 1]).strip(), limit=limit)


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_array(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def object_in(value: object) -> dict[str, Any]:
    """The value, if it is a JSON object; else an empty object."""
    return value if _is_object(value) else {}


def array_in(value: object) -> list[Any]:
    """The value, if it is a JSON array; else an empty array."""
    return value if _is_array(value) else []


def text_in(value: object) -> str | None:
    """The value made safe to show, if it is a text that is not empty; else ``None``."""
    return one_line(value) or None if isinstance(value, str) else None


def message_in(value: object) -> str | None:
    """The value made safe to show, if it is a text that says more than a status phrase; else ``None``."""
    text = text_in(value)
    if text is None:
        return None
    plain = re.sub(r"^\d{3}\s*[:-]?\s*", "", text).rstrip(".!").lower()
    return None if plain in _PHRASES or plain in _GENERIC or text.startswith(("{", "<")) else text


def first_of(value: object, names: Sequence[str]) -> object:
    """The first member of an object, in the order of ``names``, that is not empty; else ``None``."""
    mapping = object_in(value)
    return next((mapping[name] for name in names if mapping.get(name)), None)


def lower(value: object) -> object:
    """The value in lower case, if it is a text; else ``None``."""
    return value.lower() if isinstance(value, str) else None


def slug_in(value: object) -> str | None:
    """The value, if it is a name like the types and codes of the contract, in lower case; else ``None``."""
    return value if isinstance(value, str) and _SLUG.fullmatch(value) and value not in ("none", "null") else None


def code_in(value: object, status: int) -> str | None:
    """The value as a code, if it is a code that says more than the status does; else ``None``."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    code = str(value)
    return code if _CODE.fullmatch(code) and code not in ("None", "null", str(status)) else None


def param_in(value: object) -> str | None:
    """The value, if it can be the name of a parameter; else ``None``."""
    text = text_in(value)
    return None if text in ("None", "null") else text
