"""Parts of the body of a response to a call, copied while the caller reads it.

>>> tail = StreamTail()
>>> tail.add(b"data: 1\\n\\ndata: [DO")
>>> tail.add(b"NE]\\n\\n")
>>> tail.is_whole()
True
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flexmw.contract import ErrorBody
from flexmw.contract.idempotent_stream import ends_whole

__all__ = ["BodyPrefix", "StreamTail", "has_readable_body", "is_event_stream"]

MAX_BODY_BYTES: Final = 64 * 1024
"""Error bodies up to this length are searched for an error object; longer ones are dropped."""

MAX_TAIL_BYTES: Final = 16 * 1024
"""The end of an event stream that is kept: the last event, with the usage of an Anthropic or OpenAI response."""


def has_readable_body(headers: Mapping[str, str]) -> bool:
    """Whether the body is JSON without a content encoding."""
    media_type = _media_type(headers)
    return _is_plain(headers) and (media_type == "application/json" or media_type.endswith("+json"))


def is_event_stream(headers: Mapping[str, str]) -> bool:
    """Whether the body is an event stream without a content encoding."""
    return _media_type(headers) == "text/event-stream" and _is_plain(headers)


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _is_plain(headers: Mapping[str, str]) -> bool:
    return headers.get("content-encoding", "identity") in ("", "identity")


class BodyPrefix:
    """Copies an error body while the caller reads it, up to :data:`MAX_BODY_BYTES`."""

    __slots__ = ("_chunks", "_size_bytes")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size_bytes = 0

    def add(self, chunk: bytes) -> None:
        """Take the next chunk of the body."""
        self._size_bytes += len(chunk)
        if self._size_bytes <= MAX_BODY_BYTES:
            self._chunks.append(chunk)
        else:
            self._chunks.clear()

    def error(self) -> ErrorBody | None:
        """The error object in the body, if there is one."""
        return ErrorBody.decode(b"".join(self._chunks)) if self._chunks else None


class StreamTail:
    """Copies the end of an event stream while the caller reads it."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b""

    def add(self, chunk: bytes) -> None:
        """Take the next chunk of the body."""
        self._tail = (self._tail + chunk)[-MAX_TAIL_BYTES:]

    def is_whole(self) -> bool:
        """Whether the last event is one that ends a stream."""
        return ends_whole(self._tail)
