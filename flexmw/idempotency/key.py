"""Read ``Idempotency-Key`` and tell one request from another.

>>> parse_key([b'"8e03978e-40d5"']), parse_key([b"8e03978e-40d5"]), parse_key([])
('8e03978e-40d5', '8e03978e-40d5', None)
>>> parse_key([b"a, b"])
Traceback (most recent call last):
    ...
ValueError: it holds a character that only a quoted key may hold

The header is a structured-field string (draft-ietf-httpapi-idempotency-key-header-07, RFC 9651 section 3.3.3). Most
clients send the bare text; both forms of the same text are one key.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

__all__ = ["MAX_KEY", "fingerprint", "parse_key"]

MAX_KEY: Final = 255
"""The longest key, in characters, as Stripe has it."""

_QUOTED: Final = re.compile(rb'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"[ \t]*(?:;[\x20-\x7e]*)?')
_BARE: Final = re.compile(rb"[\x21\x23-\x2b\x2d-\x3a\x3c-\x7e]+")
_ESCAPED: Final = re.compile(rb'\\(["\\])')
_BOUNDARY: Final = re.compile(rb'(?i)^\s*multipart/[^;]+;(?:.*;)?\s*boundary\s*=\s*(?:"([^"]{1,70})"|([^\s;"]{1,70}))')


def parse_key(values: Sequence[bytes]) -> str | None:
    """The key of a request from its header lines; ``None`` when there is none.

    :raises ValueError: with words for the caller: empty, longer than 255 characters, malformed, or several keys.
    """
    keys = {_parse_one(value.strip(b" \t")) for value in values}
    if len(keys) > 1:
        raise ValueError("the request carries several different keys")
    return keys.pop() if keys else None


def _parse_one(value: bytes) -> str:
    if len(value) > 4 * MAX_KEY:
        raise ValueError(f"it is longer than {MAX_KEY} characters")
    if value.startswith(b'"'):
        quoted = _QUOTED.fullmatch(value)
        if quoted is None:
            raise ValueError("it begins with a quote and is no structured-field string (RFC 9651)")
        text = _ESCAPED.sub(rb"\1", quoted[1])
    else:
        text = value
        if text and not _BARE.fullmatch(text):
            raise ValueError("it holds a character that only a quoted key may hold")
    if not text:
        raise ValueError("it is empty")
    if len(text) > MAX_KEY:
        raise ValueError(f"it is longer than {MAX_KEY} characters")
    return text.decode("ascii")


def fingerprint(method: str, path: str, query: bytes, body: bytes, content_type: bytes = b"") -> str:
    """A digest of what is asked for: method, path, query and body, 64 hexadecimal digits.

    The boundary of a multipart body is left out: clients draw a new one for every attempt.
    """
    boundary = _BOUNDARY.match(content_type)
    if boundary:
        body = body.replace(b"--" + (boundary[1] or boundary[2]), b"--")
    digest = sha256()
    for part in (method.upper().encode(), path.encode("utf-8", "surrogatepass"), query, body):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()
