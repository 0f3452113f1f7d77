"""The frames of ``application/vnd.amazon.eventstream``: the payloads of a binary stream of AWS, chunk by chunk. Pure.

A frame is its length and that of its headers (two numbers of four bytes), a checksum of both, the headers, the payload
and a checksum of all. The checksums are not compared: the client does that, and nothing is changed here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

__all__ = ["MAX_FRAME_BYTES", "Frames"]

MAX_FRAME_BYTES: Final = 1024 * 1024
"""The longest frame whose payload is read."""

_PRELUDE: Final = 12
_CHECKSUM: Final = 4
_LENGTHS: Final = struct.Struct(">II")


class Frames:
    """The frames of one stream."""

    __slots__ = ("_data", "_skipped")

    def __init__(self) -> None:
        self._data = bytearray()
        self._skipped = 0

    def add(self, chunk: bytes) -> Iterator[bytes | None]:
        """Take the next chunk, and return the payloads of the frames that end in it; ``None`` for one that is too long.

        :raises ValueError: the stream has another format.
        """
        data = self._data
        data += chunk
        while True:
            part = min(self._skipped, len(data))
            del data[:part]
            self._skipped -= part
            if len(data) < _PRELUDE:
                return
            length, headers = _LENGTHS.unpack_from(data)
            if headers > length - _PRELUDE - _CHECKSUM:
                raise ValueError("no frame of application/vnd.amazon.eventstream")
            if length > MAX_FRAME_BYTES:
                self._skipped = length
                yield None
                continue
            if len(data) < length:
                return
            payload = bytes(data[_PRELUDE + headers : length - _CHECKSUM])
            del data[:length]
            yield payload
