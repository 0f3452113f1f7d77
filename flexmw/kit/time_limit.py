"""A deadline for the operations of this thread or task on a store, which blocking sockets and locks obey.

A timeout of a socket begins anew with every byte, so a server that sends its reply byte by byte holds a blocking
operation for any time. :func:`within` sets one deadline for everything inside its context.

Code that awaits a store gives :func:`within` the clock of its event loop, which does not count the time for which the
loop is blocked: see :mod:`flexmw.kit.loop_time`. Blocking code must not, because it may block the loop itself.

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

from flexmw.kit.loop_time import REAL_TIME, LoopTime

__all__ = ["Socket", "end", "remaining", "within"]

_FOREVER: Final = float("inf")


_deadline: Final[ContextVar[within | None]] = ContextVar("flexmw.store_deadline", default=None)
"""The innermost context manager."""


def end() -> float:
    """The deadline of the operation, by :func:`time.monotonic`. It is later each time that the event loop was blocked
    meanwhile."""
    deadline = _deadline.get()
    return _FOREVER if deadline is None else time.monotonic() + deadline.ends - deadline.time.now()


def remaining() -> float:
    """Seconds until :func:`end`; below 0 after the deadline."""
    deadline = _deadline.get()
    return _FOREVER if deadline is None else deadline.ends - deadline.time.now()


class within:  # noqa: N801 - used as a function
    """A context manager that sets the deadline of everything inside. An outer deadline that is earlier stays.

    The context manager is a class and not a generator, because every operation of a store enters it.

    :param seconds: the time from now on.
    :param time: the clock of the deadline.
    :ivar ends: the deadline by that clock. Both are kept, because the deadline moves where the event loop is blocked.
    """

    __slots__ = ("_seconds", "_token", "ends", "time")

    def __init__(self, seconds: float, time: LoopTime = REAL_TIME) -> None:
        self._seconds, self.time = seconds, time

    def __enter__(self) -> None:
        time, seconds = self.time, self._seconds
        time.begin()
        if _deadline.get() is not None:
            seconds = min(seconds, remaining())
        self.ends = time.now() + seconds
        self._token: Token[within | None] = _deadline.set(self)

    def __exit__(self, *_: object) -> None:
        _deadline.reset(self._token)
        self.time.end()


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
        left = remaining()
        if left == _FOREVER:
            return
        if self._timeout is not None and self._timeout <= max(0.0, left):
            self._socket.settimeout(self._timeout)
        elif left <= 0.0:
            raise TimeoutError("the time of the operation is over")
        else:
            self._socket.settimeout(left)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)
