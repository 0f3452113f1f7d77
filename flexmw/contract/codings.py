"""Content codings: decode a response body, or its beginning, to at most a given number of bytes.

gzip and deflate need no package. ``br`` needs the package ``brotli`` (1.2 or later: earlier versions cannot bound
their output) or ``brotlicffi``. ``zstd`` needs Python 3.14, ``backports.zstd`` or ``zstandard``. With these packages
httpx and httpx2 ask for the two codings.

>>> import gzip
>>> decode(gzip.compress(b"hello"), "gzip", limit=100)
Plain(data=b'hello', is_whole=True)
>>> decode(gzip.compress(b"hello"), "gzip", limit=2)
Plain(data=b'he', is_whole=False)
>>> decode(b"hello", "rot13", limit=100) is None
True
>>> one, other = gzip.compress(b"hello", mtime=1), gzip.compress(b"hello", mtime=2)
>>> one == other, stable_body(one, "gzip") == stable_body(other, "gzip")
(False, True)
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Any, Final, NamedTuple

__all__ = ["Plain", "decode", "stable_body"]

_MAX_CODINGS: Final = 5
_MAX_WINDOW_LOG: Final = 23
"""RFC 9659: a window of ``zstd`` has at most 8 MiB, as its base-2 logarithm."""


_GZIP: Final = b"\x1f\x8b\x08"
_PLAIN_HEADER: Final = _GZIP + b"\0\0\0\0\0\0\xff"
"""The header of a gzip member without a time, a name and a comment, from an unknown system (RFC 1952 section 2.3)."""

_HEADER_CRC, _EXTRA, _NAME, _COMMENT = 2, 4, 8, 16
"""The flags of the optional parts of a header."""


class Plain(NamedTuple):
    """A body without its content codings.

    :param data: the plain bytes, as many as the limit allows.
    :param is_whole: True for the whole body; False if the body was longer, or its end is missing.
    """

    data: bytes
    is_whole: bool


def decode(body: bytes, encoding: str, *, limit: int) -> Plain | None:
    """Undo the content codings of a body, or of the beginning of one.

    :param encoding: the value of ``Content-Encoding``: the codings in the order in which they were applied.
    :param limit: most bytes of output of each coding.
    :returns: ``None`` if a coding is unknown, its package is not installed, or the body is damaged.
    """
    names = [name for part in encoding.lower().split(",") if (name := part.strip()) not in ("", "identity")]
    if len(names) > _MAX_CODINGS or any(name not in _DECODERS for name in names):
        return None
    plain = Plain(body, is_whole=True) if names else Plain(body[:limit], len(body) <= limit)
    for name in reversed(names):
        decoded = _DECODERS[name](plain.data, limit)
        if decoded is None:
            return None
        plain = Plain(decoded.data, decoded.is_whole and plain.is_whole)
    return plain


def stable_body(body: bytes, encoding: str) -> bytes:
    """A body in which nothing tells when it was compressed, for comparing two attempts of one request.

    The header of a gzip member holds the time, and may hold a file name: a client that compresses the same bytes anew
    for each attempt sends other bytes. Nothing is decompressed, so two levels of compression still differ.

    :param encoding: the value of ``Content-Encoding``.
    :returns: a body in gzip with a header that says nothing; any other body as it is.
    """
    if not body.startswith(_GZIP) or encoding.rpartition(",")[2].strip().lower() not in ("gzip", "x-gzip"):
        return body
    end, flags = len(_PLAIN_HEADER), body[3:4]
    for flag in (_EXTRA, _NAME, _COMMENT, _HEADER_CRC):
        if flags and flags[0] & flag:
            end = _end_of_part(body, end, flag)
    return _PLAIN_HEADER + body[end:] if 0 < end <= len(body) else body


def _end_of_part(body: bytes, start: int, flag: int) -> int:
    """The end of an optional part of a gzip header."""
    if flag == _EXTRA:
        return start + 2 + int.from_bytes(body[start : start + 2], "little")
    if flag == _HEADER_CRC:
        return start + 2
    end = body.find(b"\0", start)
    return end + 1 if end >= 0 else len(body) + 1


def _inflate(body: bytes, limit: int, *, window: int) -> Plain | None:
    reader = zlib.decompressobj(window)
    try:
        data = reader.decompress(body, limit)
    except zlib.error:
        return None
    return Plain(data, reader.eof)


def _gzip(body: bytes, limit: int) -> Plain | None:
    return _inflate(body, limit, window=47)


def _deflate(body: bytes, limit: int) -> Plain | None:
    """Some servers send the raw format instead of that of zlib (RFC 9110 section 8.4.1.2)."""
    return _inflate(body, limit, window=15) or _inflate(body, limit, window=-15)


def _brotli(body: bytes, limit: int) -> Plain | None:
    package = _first_of("brotli", "brotlicffi")
    if package is None:
        return None
    reader = package.Decompressor()
    read: Callable[..., bytes] = getattr(reader, "decompress", None) or reader.process
    data, piece = b"", body
    try:
        while len(data) < limit and (part := read(piece, output_buffer_limit=limit)):
            data, piece = data + part, b""
    except (package.error, TypeError):  # TypeError: this version cannot bound its output
        return None
    return Plain(data[:limit], len(data) <= limit and bool(reader.is_finished()))


def _zstd(body: bytes, limit: int) -> Plain | None:
    package = _first_of("compression.zstd", "backports.zstd")
    if package is None:
        return _zstandard(body, limit)
    reader = package.ZstdDecompressor(options={package.DecompressionParameter.window_log_max: _MAX_WINDOW_LOG})
    try:
        data: bytes = reader.decompress(body, limit)
    except package.ZstdError:
        return None
    return Plain(data, bool(reader.eof))


def _zstandard(body: bytes, limit: int) -> Plain | None:
    package = _first_of("zstandard")
    if package is None:
        return None
    reader = package.ZstdDecompressor(max_window_size=1 << _MAX_WINDOW_LOG)
    try:
        data: bytes = reader.stream_reader(body).read(limit)
        if len(data) == limit:
            return Plain(data, is_whole=False)
        end = reader.decompressobj()  # the output has no bound here, but is known to be short now
        end.decompress(body)
    except package.ZstdError:
        return None
    return Plain(data, bool(end.eof))


@cache
def _first_of(*names: str) -> Any:
    """The first of these modules that is installed."""
    for name in names:
        with suppress(ImportError):
            return import_module(name)
    return None


_DECODERS: Final[Mapping[str, Callable[[bytes, int], Plain | None]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
