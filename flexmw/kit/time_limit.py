"""A deadline for the operations of this thread or task on a store, which blocking sockets and locks obey.

A timeout of a socket begins anew with every byte, so a server that sends its reply byte by byte holds a blocking
operation for any time. :func:`within` sets one deadline for everything inside its context.

>>> with within(60.0), within(5.0):
...     4.0 < remaining() <= 5.0
True
>>> remaining()
inf
"""

from __future__ import annotations

import time
from contextvars import ContextVar, Token
from typing import Any, Final

__all__ = ["Socket", "end", "remaining", "within"]

_FOREVER: Final = float("inf")
_end: Final[ContextVar[float]] = ContextVar("flexmw.store_end", default=_FOREVER)


def end() -> float:
    """The deadline of the operation, by :func:`time.monotonic`."""
    return _end.get()


def remaining() -> float:
    """Seconds until :func:`end`; below 0 after the deadline."""
    return _end.get() - time.monotonic()


class within:  # noqa: N801 - used as a function
    """A context manager that sets the deadline of everything inside. An outer deadline that is earlier stays.

    The context manager is a class and not a generator, because every operation of a store enters it.
    """

    __slots__ = ("_seconds", "_token")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._token: Token[float] = _end.set(min(_end.get(), time.monotonic() + self._seconds))

    def __exit__(self, *_: object) -> None:
        _end.reset(self._token)


class Socket:
    """A blocking socket that stops waiting at :func:`end`. All other methods are those of the socket."""

    __slots__ = ("_socket", "_timeout")

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._timeout: float | None = socket.gettimeout()

    def settimeout(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._socket.settimeout(timeout)

    def recv(self, *arguments: Any) -> Any:
        self._limit()
        return self._socket.recv(*arguments)

    def recv_into(self, *arguments: Any) -> Any:
        self._limit()
        return self._socket.recv_into(*arguments)

    def sendall(self, *arguments: Any) -> Any:
        self._limit()
        return self._socket.sendall(*arguments)

    def _limit(self) -> None:
        end = _end.get()
        if end == _FOREVER:
            return
        left = end - time.monotonic()
        if self._timeout is not None and self._timeout <= max(0.0, left):
            self._socket.settimeout(self._timeout)
        elif left <= 0.0:
            raise TimeoutError("the time of the operation is over")
        else:
            self._socket.settimeout(left)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)
