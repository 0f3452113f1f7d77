"""Request bodies: find out whether a body can be sent again exactly, and rewind it.

httpx and httpx2 wrap the caller's body in stream classes with the same names, and the rules use these names. A body of
any other class is never sent again, because the result of a second read is unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

__all__ = ["BYTE_STREAMS", "body_bytes", "mark_consumed", "no_rewind_needed", "rewinder"]

BYTE_STREAMS: Final[set[type]] = set()
"""The classes of the libraries for a body of bytes, which nearly every request has. A lookup in this set is faster than
one in the cache of :func:`_library_class`."""


def body_bytes(stream: Any) -> bytes | None:
    """Return the body if the stream holds it in memory as bytes; else ``None``."""
    held = getattr(stream, "_stream", None)
    return held if _library_class(stream.__class__) == "ByteStream" and isinstance(held, bytes) else None


@lru_cache(maxsize=64)
def _library_class(cls: type) -> str:
    """The name of a class of the client libraries; an empty string for any other class."""
    return cls.__name__ if cls.__module__.partition(".")[0] in ("httpx", "httpx2") else ""


def rewinder(stream: Any) -> Callable[[], None] | None:
    """Return a function that rewinds a body to its start; ``None`` if the body may differ when it is sent again.

    Bytes, JSON and forms are held in memory. A file goes back to the position that it has now. A multipart body is
    built again from its fields if every file in it can be rewound. Iterators and generators can be read once.
    """
    if stream.__class__ in BYTE_STREAMS:
        return no_rewind_needed
    name = _library_class(stream.__class__)
    if name == "ByteStream":
        BYTE_STREAMS.add(stream.__class__)
        return no_rewind_needed
    if name == "MultipartStream":
        files = [getattr(field, "file", None) for field in getattr(stream, "fields", ())]
        replayable = all(isinstance(file, (str, bytes, type(None))) or _is_seekable(file) for file in files)
        return no_rewind_needed if replayable else None
    if name != "IteratorByteStream":  # an async file claims to be seekable, but its seek() must be awaited
        return None
    body: Any = stream._stream
    if isinstance(body, (list, tuple)):
        return lambda: _mark_unread(stream)
    if not _is_seekable(body):
        return None
    start: int = body.tell()

    def rewind() -> None:
        body.seek(start)
        _mark_unread(stream)

    return rewind


def mark_consumed(stream: Any) -> None:
    """Make a second read of a body raise the library's ``StreamConsumed``, as a second read of a generator does.

    Otherwise the library would continue the first read, and send an empty or cut body.
    """
    if hasattr(stream, "_is_generator"):
        stream._is_generator = True


def no_rewind_needed() -> None:
    """The rewinder of a body whose every read begins at the start."""


def _mark_unread(stream: Any) -> None:
    stream._is_stream_consumed = False


def _is_seekable(file: Any) -> bool:
    try:
        return bool(file.seekable())
    except (AttributeError, ValueError):
        return False
