"""Which request bodies can be sent again exactly, and how.

httpx and httpx2 wrap the caller's body in stream classes of the same names; the rules go by those.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["body_bytes", "rewinder"]


def body_bytes(stream: Any) -> bytes | None:
    """The body where it is held in memory as bytes; ``None`` otherwise."""
    held = getattr(stream, "_stream", None)
    return held if type(stream).__name__ == "ByteStream" and isinstance(held, bytes) else None


def rewinder(stream: Any) -> Callable[[], None] | None:
    """A function that makes a body ready to be sent again, from where it began; ``None`` if that cannot be promised.

    Bytes, JSON and forms are held in memory. A file goes back to the position it had. A multipart body is made anew
    from its fields if every file in it can be rewound. Iterators and generators are gone once read.
    """
    kind = type(stream).__name__
    if kind == "ByteStream":
        return _ready
    if kind == "MultipartStream":
        files = [getattr(field, "file", None) for field in getattr(stream, "fields", ())]
        return _ready if all(isinstance(file, (str, bytes, type(None))) or _seekable(file) for file in files) else None
    body: Any = getattr(stream, "_stream", None)
    if isinstance(body, (list, tuple)):
        return lambda: _unread(stream)
    if not _seekable(body):
        return None
    start: int = body.tell()

    def rewind() -> None:
        body.seek(start)
        _unread(stream)

    return rewind


def _ready() -> None:
    """Nothing to do: reading it again begins at the start."""


def _unread(stream: Any) -> None:
    stream._is_stream_consumed = False


def _seekable(file: Any) -> bool:
    try:
        return bool(file.seekable())
    except (AttributeError, ValueError):
        return False
