"""Content decoding: the bytes of a response body as text, as a JSON value, and as a kind of stream. Pure.

>>> parse(b'{"detail": "No."}', "text/plain")
({'detail': 'No.'}, '{"detail": "No."}')
>>> is_event_stream([(b"Content-Type", b"text/event-stream; charset=utf-8")])
True
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable
from typing import Final

from flexmw.contract.codings import decode

__all__ = ["EVENT_STREAM", "decompress", "is_event_stream", "parse", "value_of"]

_CHARSETS: Final = (
    *("ascii", "big5", "cp", "euc", "gb", "hp-roman8", "hz", "iso2022", "iso8859", "johab", "koi8", "kz1048", "latin"),
    *("mac", "ptcp", "shift_jis", "tis", "utf-16", "utf-32", "utf-8"),
)
"""The beginnings of the names of Python's codecs that are charsets."""

EVENT_STREAM: Final = b"text/event-stream"
"""The media type of server-sent events (WHATWG HTML section 9.2)."""


def value_of(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    """The value of the first header with this name (``name`` in lower case); an empty string without one."""
    return next((value for key, value in headers if key.lower() == name), b"").decode("latin-1")


def is_event_stream(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """True if the headers of a response announce server-sent events."""
    return any(name.lower() == b"content-type" and value.lower().startswith(EVENT_STREAM) for name, value in headers)


def parse(body: bytes, content_type: str) -> tuple[object, str]:
    """Decode a body by its charset, and as JSON where the text looks like JSON, whatever the declared media type.

    :returns: the JSON value (``None`` if the text is not JSON) and the text.
    """
    charset = re.search(r"charset=[\"']?([A-Za-z0-9_.:-]{1,40})", content_type)
    try:
        text = body.decode(_codec(charset[1]) if charset else "utf-8", "replace")
    except (LookupError, ValueError):
        text = body.decode("utf-8", "replace")
    if text.lstrip("\ufeff \t\r\n")[:1] in ("{", "[", '"'):
        try:
            return json.loads(text.lstrip("\ufeff")), text
        except (ValueError, RecursionError):
            pass
    return None, text


def _codec(charset: str) -> str:
    """The codec of a charset that bodies are written in (WHATWG Encoding), else UTF-8.

    Python has codecs that are no charsets: ``punycode`` and ``idna`` take time with the square of the input, and
    ``unicode_escape`` warns about the input.
    """
    name = codecs.lookup(charset).name
    return name if name.startswith(_CHARSETS) else "utf-8"


def decompress(body: bytes, encoding: str, limit: int) -> bytes | None:
    """Undo the content codings of a body.

    :param encoding: the ``Content-Encoding``.
    :param limit: how many bytes may come out.
    :returns: the plain bytes; ``None`` if a coding is unknown, the body is damaged, or it is longer than ``limit``.
    """
    if encoding in ("", "identity"):
        return body
    plain = decode(body, encoding, limit=limit)
    return plain.data if plain is not None and plain.is_whole else None
