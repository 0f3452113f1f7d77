"""Discarded responses: small bodies are read, which keeps the connection usable; other bodies are closed."""

from __future__ import annotations

from typing import Any, Final

from flexmw.kit.evidence import is_transport_error

__all__ = ["DRAIN_BYTES", "is_broken", "is_shared", "is_small"]

DRAIN_BYTES: Final = 64 * 1024
"""Bytes of the largest discarded body that is read to its end, so that the connection can be used again."""


def is_small(response: Any) -> bool:
    """Whether each read brings a piece of a small body. Chunked coding can bring other bytes, without an end, and a
    blocking read of those cannot be bounded."""
    headers = getattr(response, "headers", None)
    if headers is None:
        return True
    length = headers.get("content-length", "")
    return length.isascii() and length.isdigit() and len(length) < 7 and int(length) <= DRAIN_BYTES


def is_shared(response: Any) -> bool:
    """Whether a response came over HTTP/2, on a connection that carries other calls too.

    A discarded response of such a connection is closed and not read: a blocking client could end the read only by a
    timeout, and httpcore then closes the whole connection, with the other calls on it.
    """
    return getattr(response, "extensions", _NOTHING).get("http_version") == b"HTTP/2"


_NOTHING: Final[dict[str, Any]] = {}


def is_broken(error: Exception) -> bool:
    """Whether an error says that a discarded response broke or could not be closed. Such an error is ignored.

    Any other error is not about the response: a time limit that is raised into the call, for instance, which may be a
    ``TimeoutError``.
    """
    return is_transport_error(error) or (isinstance(error, OSError) and not isinstance(error, TimeoutError))
