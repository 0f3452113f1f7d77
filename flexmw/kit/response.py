"""What the rest of a response is worth that nobody wants, and whom reading it would hurt."""

from __future__ import annotations

from typing import Any, Final

from flexmw.kit.evidence import is_transport_error

__all__ = ["DRAIN_BYTES", "is_broken", "is_shared", "is_small"]

DRAIN_BYTES: Final = 64 * 1024
"""Reading a discarded body of up to so many bytes to its end saves the connection."""


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

    Nothing of such a response is read that nobody wants: a blocking client could end the read only by a timeout, and
    httpcore ends the whole connection with it, other calls included.
    """
    return getattr(response, "extensions", _NOTHING).get("http_version") == b"HTTP/2"


_NOTHING: Final[dict[str, Any]] = {}


def is_broken(error: Exception) -> bool:
    """Whether an error says that a response that is given up broke or could not be closed, which matters to nobody.

    Anything else is not about the response: a time limit that is raised into the call, for instance, which may well be
    a ``TimeoutError``.
    """
    return is_transport_error(error) or (isinstance(error, OSError) and not isinstance(error, TimeoutError))
