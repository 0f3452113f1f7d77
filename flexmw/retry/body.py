"""Which request bodies can be sent again exactly, and how.

httpx and httpx2 wrap the caller's body in stream classes of the same names; the rules go by those. What a stream class
of anybody else's does when it is read again is not known.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

__all__ = ["body_bytes", "ready", "rewinder", "spend"]


def body_bytes(stream: Any) -> bytes | None:
    """The body where it is held in memory as bytes; ``None`` otherwise."""
    held = getattr(stream, "_stream", None)
    return held if _kind(stream.__class__) == "ByteStream" and isinstance(held, bytes) else None


@lru_cache(maxsize=64)
def _kind(cls: type) -> str:
    """The name of a class of the client libraries; empty for any other."""
    return cls.__name__ if cls.__module__.partition(".")[0] in ("httpx", "httpx2") else ""


def rewinder(stream: Any) -> Callable[[], None] | None:
    """A function that makes a body ready to be sent again, from where it began; ``None`` if that cannot be promised.

    Bytes, JSON and forms are held in memory. A file goes back to the position it had. A multipart body is made anew
    from its fields if every file in it can be rewound. Iterators and generators are gone once read.
    """
    kind = _kind(stream.__class__)
    if kind == "ByteStream":
        return ready
    if kind == "MultipartStream":
        files = [getattr(field, "file", None) for field in getattr(stream, "fields", ())]
        return ready if all(isinstance(file, (str, bytes, type(None))) or _seekable(file) for file in files) else None
    if kind != "IteratorByteStream":  # an async file says that it is seekable, and seeks only when awaited
        return None
    body: Any = stream._stream
    if isinstance(body, (list, tuple)):
        return lambda: _unread(stream)
    if not _seekable(body):
        return None
    start: int = body.tell()

    def rewind() -> None:
        body.seek(start)
        _unread(stream)

    return rewind


def spend(stream: Any) -> None:
    """A body that cannot be sent again: reading it a second time raises the library's ``StreamConsumed``, as one of a
    generator does, where it would go on with what is left, mostly nothing."""
    if hasattr(stream, "_is_generator"):
        stream._is_generator = True


def ready() -> None:
    """Nothing to do: reading it again begins at the start."""


def _unread(stream: Any) -> None:
    stream._is_stream_consumed = False


def _seekable(file: Any) -> bool:
    try:
        return bool(file.seekable())
    except (AttributeError, ValueError):
        return False
