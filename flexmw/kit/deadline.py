"""Hold one attempt to the deadline of its call: the way to the head of the response, and the body of the response."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio

__all__ = ["DeadlineBody", "library_error", "timeout_error"]


def timeout_error(request: Any, name: str, message: str) -> Exception:
    """A timeout of the request's own library, such as ``httpx.PoolTimeout``.

    :param name: the class in that library.
    """
    return library_error(request, name, message, TimeoutError)


def library_error(request: Any, name: str, message: str, other: type[Exception] = ConnectionError) -> Exception:
    """An error of the request's own library.

    :param name: the class in that library.
    :param other: the class where the library has none of that name.
    """
    library = sys.modules.get(type(request).__module__.partition(".")[0])
    cls: Any = getattr(library, name, None)
    return other(message) if cls is None else cls(message, request=request)


class DeadlineBody:
    """A response body that breaks with ``ReadTimeout`` once its call is over.

    In an async client a cancel scope around each read ends it in time. A blocking read cannot be ended from outside:
    there the deadline is looked at after each piece, and over HTTP/1.1 the read timeout is no longer than what was left
    when the body began.

    :param left: returns the seconds that are left.
    :param own_connection: whether no other call uses the connection.
    """

    def __init__(self, stream: Any, request: Any, left: Callable[[], float], *, own_connection: bool) -> None:
        self._stream, self._request, self._left, self._own_connection = stream, request, left, own_connection

    def __iter__(self) -> Iterator[bytes]:
        timeout = self._request.extensions.get("timeout")
        bounded = self._own_connection and isinstance(timeout, dict)
        read = timeout.get("read") if bounded else None
        try:
            if bounded:
                left = max(0.001, self._left())
                timeout["read"] = left if read is None else min(read, left)
            for chunk in self._stream:
                if self._left() <= 0:
                    self._stream.close()
                    raise self._error()
                yield chunk
        finally:
            if bounded:  # the same request may be sent again
                timeout["read"] = read

    async def __aiter__(self) -> AsyncIterator[bytes]:
        body, chunk = aiter(self._stream), b""
        while True:
            with anyio.move_on_after(max(0.0, self._left())) as scope:
                try:
                    chunk = await anext(body)
                except StopAsyncIteration:
                    return
            if scope.cancelled_caught:
                with anyio.CancelScope(shield=True):
                    await self._stream.aclose()
                raise self._error()
            yield chunk

    def _error(self) -> Exception:
        return timeout_error(self._request, "ReadTimeout", "the deadline of the call is over")

    def close(self) -> None:
        self._stream.close()

    async def aclose(self) -> None:
        await self._stream.aclose()
