"""Content codings of a body that arrives in chunks: decode each chunk when it comes, in pieces of a bounded size.

gzip and deflate need no package. ``br`` needs the package ``brotli`` (1.2 or later), ``zstd`` needs Python 3.14 or
``backports.zstd``: other packages cannot bound the output of one chunk. :mod:`flexmw.contract.codings` decodes a body
that is in memory.

>>> import gzip
>>> decode = chunk_decoder("gzip")
>>> body = gzip.compress(b"hello")
>>> [*decode(body[:9]), *decode(body[9:])]
[b'hello']
>>> chunk_decoder("rot13") is None
True
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, Final, TypeAlias

__all__ = ["PIECE_BYTES", "ChunkDecoder", "chunk_decoder"]

PIECE_BYTES: Final = 64 * 1024
"""The longest piece of output. The package ``brotli`` gives up to twice as much."""

_MAX_WINDOW_LOG: Final = 23
"""RFC 9659: a window of ``zstd`` has at most 8 MiB, as its base-2 logarithm."""

_MIN_BROTLI: Final = (1, 2)

_INPUT_BYTES: Final = 4096
"""A longer chunk is decoded part by part. The decoders copy what they have not read yet for each piece and for each
member: 10 MB in one chunk that expand to many pieces took seconds."""

ChunkDecoder: TypeAlias = Callable[[bytes], Iterator[bytes]]
"""Takes the next chunk, and returns its output in pieces of :data:`PIECE_BYTES` at most.

:raises ValueError: when the output is read, for a body that is damaged."""


def chunk_decoder(encoding: str) -> ChunkDecoder | None:
    """A decoder of one body; ``None`` if the coding is unknown or its package is not installed.

    :param encoding: the value of ``Content-Encoding``. Several codings at once are not decoded.
    """
    make = _DECODERS.get(encoding.strip().lower())
    decode = None if make is None else make()
    if decode is None:
        return None

    def decode_parts(chunk: bytes) -> Iterator[bytes]:
        for start in range(0, len(chunk), _INPUT_BYTES):
            yield from decode(chunk[start : start + _INPUT_BYTES])

    return decode_parts


class _Inflater:
    """gzip (RFC 1952), also of several members, and deflate, also without the frame of zlib, which some servers send
    (RFC 9110 section 8.4.1.2)."""

    def __init__(self, *, is_gzip: bool) -> None:
        self._is_gzip = is_gzip
        self._reader: Any = zlib.decompressobj(31) if is_gzip else None
        self._start = b""

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        if self._reader is None:
            chunk = self._start = self._start + chunk
            if len(chunk) < 2:
                return
            is_framed = chunk[0] & 15 == 8 and int.from_bytes(chunk[:2], "big") % 31 == 0
            self._reader, self._start = zlib.decompressobj(15 if is_framed else -15), b""
        size = 0
        while chunk or size == PIECE_BYTES:  # a full piece may have left output behind
            if self._reader.eof:
                if not (self._is_gzip and chunk):
                    return
                self._reader = zlib.decompressobj(31)
            try:
                piece = self._reader.decompress(chunk, PIECE_BYTES)
            except zlib.error as error:
                raise ValueError(str(error)) from None
            size = len(piece)
            chunk = self._reader.unused_data if self._reader.eof else self._reader.unconsumed_tail
            if piece:
                yield piece


def _brotli() -> ChunkDecoder | None:
    try:
        package = import_module("brotli")
    except ImportError:
        return None
    version = tuple(int(part) for part in str(package.__version__).split(".")[:2] if part.isdigit())
    if version < _MIN_BROTLI:
        return None
    reader = package.Decompressor()

    def decode(chunk: bytes) -> Iterator[bytes]:
        while True:
            try:
                piece: bytes = reader.process(chunk, output_buffer_limit=PIECE_BYTES)
            except package.error as error:
                raise ValueError(str(error)) from None
            if not piece:
                return
            yield piece
            chunk = b""

    return decode


def _zstd() -> ChunkDecoder | None:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            package = import_module(name)
            break
        except ImportError:
            continue
    else:
        return None
    options = {package.DecompressionParameter.window_log_max: _MAX_WINDOW_LOG}
    reader = package.ZstdDecompressor(options=options)

    def decode(chunk: bytes) -> Iterator[bytes]:
        nonlocal reader
        while chunk or not (reader.eof or reader.needs_input):
            if reader.eof:  # a body may have several frames
                reader = package.ZstdDecompressor(options=options)
            try:
                piece: bytes = reader.decompress(chunk, PIECE_BYTES)
            except package.ZstdError as error:
                raise ValueError(str(error)) from None
            chunk = reader.unused_data if reader.eof else b""
            if piece:
                yield piece

    return decode


_DECODERS: Final[Mapping[str, Callable[[], ChunkDecoder | None]]] = {
    "gzip": lambda: _Inflater(is_gzip=True).decode,
    "x-gzip": lambda: _Inflater(is_gzip=True).decode,
    "deflate": lambda: _Inflater(is_gzip=False).decode,
    "br": _brotli,
    "zstd": _zstd,
}
