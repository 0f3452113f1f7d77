"""Parse an idempotency key, and compute the fingerprint of a request.

>>> parse_key([b'"8e03978e-40d5"']), parse_key([b"8e03978e-40d5"]), parse_key([])
('8e03978e-40d5', '8e03978e-40d5', None)
>>> parse_key([b"a, b"])
Traceback (most recent call last):
    ...
ValueError: it holds a character that only a quoted key may hold

The header is a structured-field string (draft-ietf-httpapi-idempotency-key-header-07, RFC 9651 section 3.3.3). Most
clients send the text without quotes. Both forms of one text are the same key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from struct import Struct
from typing import Any, Final

from flexmw.contract.codings import stable_body
from flexmw.contract.credentials import split_query

__all__ = ["MAX_KEY", "fingerprint", "first_value", "key_of", "parse_key"]

MAX_KEY: Final = 255
"""Length of the longest key in characters. Stripe has the same bound."""

_REMEMBERED: Final = 256
"""Characters of the longest path, with its query, whose hash is remembered."""

_SHORT_BODY: Final = 1024
"""Bytes of a body that costs less to copy than a second call."""

_LENGTHS: Final = Struct(">Q")
_QUOTED: Final = re.compile(rb'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"[ \t]*(?:;[\x20-\x7e]*)?')
_BARE: Final = bytes(char for char in range(0x21, 0x7F) if char not in b'",;')
"""The characters of a key without quotes."""
_ESCAPED: Final = re.compile(rb'\\(["\\])')
_BOUNDARY: Final = re.compile(rb'(?i)^\s*multipart/[^;]+;(?:.*;)?\s*boundary\s*=\s*(?:"([^"]{1,70})"|([^\s;"]{1,70}))')


def key_of(headers: Sequence[tuple[bytes, bytes]], fields: Mapping[bytes, bytes], names: Sequence[bytes]) -> str | None:
    """The key of a request, in the first header that has one.

    :param headers: the headers of the request.
    :param fields: the same by name.
    :param names: the headers that a key is looked for in, the first one first.
    :raises ValueError: as :func:`parse_key`.
    """
    for name in names:
        if name in fields:
            if len(headers) == len(fields):
                return parse_key((fields[name],))
            return parse_key([value for field, value in headers if field == name])
    return None


def first_value(headers: Sequence[tuple[bytes, bytes]], fields: Mapping[bytes, bytes], name: bytes) -> bytes | None:
    """The first value of a header of a request; ``None`` without one.

    :param headers: the headers of the request.
    :param fields: the same by name.
    """
    if name not in fields or len(headers) == len(fields):
        return fields.get(name)
    return next(value for field, value in headers if field == name)


def parse_key(values: Sequence[bytes]) -> str | None:
    """The key in the header lines of a request; ``None`` without a line.

    :raises ValueError: for a key that is empty, longer than 255 characters or malformed, and for several keys. The
        message is meant for the caller.
    """
    if len(values) == 1:
        return _parse_one(values[0].strip(b" \t"))
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
        if text.translate(None, _BARE):  # a tenth of the time of a regular expression
            raise ValueError("it holds a character that only a quoted key may hold")
    if not text:
        raise ValueError("it is empty")
    if len(text) > MAX_KEY:
        raise ValueError(f"it is longer than {MAX_KEY} characters")
    return text.decode("ascii")


def fingerprint(
    method: str, path: str, query: bytes, body: bytes, content_type: bytes = b"", content_encoding: bytes = b""
) -> str:
    """A digest of method, path, query and body: 64 hexadecimal digits. Equal requests have equal fingerprints.

    The boundary of a multipart body does not count, because clients make a new one for each attempt. Neither does
    the time in a body that is compressed anew for each attempt, nor the parameters of a signed URL, which belong to the
    caller.
    """
    if query:
        query, _ = split_query(query)
    boundary = _BOUNDARY.match(content_type) if b";" in content_type else None
    if content_encoding:
        body = stable_body(body, content_encoding.decode("latin-1"))
    if boundary:
        body = body.replace(b"--" + (boundary[1] or boundary[2]), b"--")
    begin = _begun if len(path) + len(query) <= _REMEMBERED else _begun.__wrapped__
    digest = begin(method, path, query).copy()
    digest.update(_LENGTHS.pack(len(body)) + body if len(body) <= _SHORT_BODY else _LENGTHS.pack(len(body)))
    if len(body) > _SHORT_BODY:
        digest.update(body)
    digits: str = digest.hexdigest()
    return digits


@lru_cache(maxsize=128)
def _begun(method: str, path: str, query: bytes) -> Any:
    """The hash up to the body. A service has few paths that are asked for again and again."""
    verb, raw_path = method.upper().encode(), path.encode("utf-8", "surrogatepass")
    return sha256(
        _LENGTHS.pack(len(verb)) + verb + _LENGTHS.pack(len(raw_path)) + raw_path + _LENGTHS.pack(len(query)) + query
    )
