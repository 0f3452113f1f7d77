"""The bytes of a body as a text and as a JSON value. Pure.

>>> parse(b'{"detail": "No."}', "text/plain")
({'detail': 'No.'}, '{"detail": "No."}')
"""

from __future__ import annotations

import json
import re
import zlib

__all__ = ["decompress", "parse"]


def parse(body: bytes, content_type: str) -> tuple[object, str]:
    """The body as a JSON value (``None`` when it is none) and as text, whatever its declared type says."""
    charset = re.search(r"charset=[\"']?([A-Za-z0-9_.:-]{1,40})", content_type)
    try:
        text = body.decode(charset[1] if charset else "utf-8", "replace")
    except (LookupError, ValueError):
        text = body.decode("utf-8", "replace")
    if text.lstrip("\ufeff \t\r\n")[:1] in ("{", "[", '"'):
        try:
            return json.loads(text.lstrip("\ufeff")), text
        except (ValueError, RecursionError):
            pass
    return None, text


def decompress(body: bytes, encoding: str, limit: int) -> bytes | None:
    """The body without its content coding, at most ``limit`` bytes of it; ``None`` where it cannot be read whole."""
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        return None
    reader = zlib.decompressobj(47 if encoding != "deflate" else 15)
    try:
        plain = reader.decompress(body, limit)
    except zlib.error:
        return None
    return plain if reader.eof else None
