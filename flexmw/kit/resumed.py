"""Response bodies that a flow continues where they end: the body phase of :class:`flexmw.kit.effects.Resume`.

The classes know neither httpx nor httpx2. ``flexmw/httpx.py`` and ``flexmw/httpx2.py`` add the stream class of each.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import anyio

from flexmw.kit.drive import adrive, drive
from flexmw.kit.effects import Discard, Effect, Flow
from flexmw.kit.response import is_broken

__all__ = ["AsyncResumedBody", "BodyClosed", "ResumedBody"]


class BodyClosed(BaseException):
    """The caller closed the body while a flow was about to continue it. No ``Exception``: a flow must not catch it."""


class _Resumed:
    """A body whose rest comes from further responses.

    :param stream: the body of the first response.
    :param again: called with what ended a body; returns the flow of a response with the rest, or ``None``.
    :param tap: called with each chunk before the reader gets it.
    :param perform: performs one effect of the flow.
    """

    def __init__(
        self,
        stream: Any,
        again: Callable[[Exception | None], Flow | None],
        tap: Callable[[bytes], object] | None,
        perform: Callable[[Effect], Any],
    ) -> None:
        self._stream = stream
        self._again = again
        self._tap = tap
        self._perform = perform
        self._closed = False

    def _perform_open(self, effect: Effect) -> Any:
        """Perform an effect unless the caller has closed the body meanwhile, from another thread or task."""
        if self._closed and not isinstance(effect, Discard):
            raise BodyClosed
        return self._perform(effect)


class ResumedBody(_Resumed):
    """A body that is continued, for a blocking client."""

    def __iter__(self) -> Iterator[bytes]:
        tap = self._tap
        error: Exception | None
        while True:
            try:
                if tap is None:
                    yield from self._stream
                else:
                    for chunk in self._stream:
                        tap(chunk)
                        yield chunk
                error = None
            except Exception as failure:
                error = failure
            if not self._goes_on(error):
                break
        if error is not None:
            try:
                raise error
            finally:
                error = None  # the traceback of the exception refers to this frame

    def _goes_on(self, error: Exception | None) -> bool:
        """Whether there is a further body to read on."""
        flow = None if self._closed else self._again(error)
        if flow is None:
            return False
        try:
            # First, because the connection pool may have no room for a second connection.
            self._stream.close()
        except Exception as failure:
            if not is_broken(failure):
                raise
        try:
            response: Any = drive(flow, self._perform_open)
        except BodyClosed:
            return False
        self._stream = response.stream
        if self._closed:
            response.stream.close()
            return False
        return True

    def close(self) -> None:
        self._closed = True
        self._stream.close()


class AsyncResumedBody(_Resumed):
    """A body that is continued, for an async client."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _AsyncChunks(self, self._stream.__aiter__().__anext__, self._tap)

    async def _goes_on(self, error: Exception | None) -> bool:
        flow = None if self._closed else self._again(error)
        if flow is None:
            return False
        try:
            with anyio.CancelScope(shield=True):
                await self._stream.aclose()
        except Exception as failure:
            if not is_broken(failure):
                raise
        try:
            response: Any = await adrive(flow, self._perform_open)
        except BodyClosed:
            return False
        self._stream = response.stream
        if self._closed:
            with anyio.CancelScope(shield=True):
                await response.stream.aclose()
            return False
        return True

    async def aclose(self) -> None:
        self._closed = True
        await self._stream.aclose()


class _AsyncChunks:
    """Iterates over a body that is continued. Not an async generator, for the reasons that the iterator of
    :mod:`flexmw.kit.bodies` names."""

    __slots__ = ("_body", "_next", "_tap")

    def __init__(
        self,
        body: AsyncResumedBody,
        next_chunk: Callable[[], Awaitable[bytes]],
        tap: Callable[[bytes], object] | None,
    ) -> None:
        self._body, self._next, self._tap = body, next_chunk, tap

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        error: Exception | None
        while True:
            try:
                chunk = await self._next()
            except StopAsyncIteration:
                error = None
            except Exception as failure:
                error = failure
            else:
                if self._tap is not None:
                    self._tap(chunk)
                return chunk
            if not await self._body._goes_on(error):
                break
            self._next = self._body._stream.__aiter__().__anext__
        if error is None:
            raise StopAsyncIteration
        try:
            raise error
        finally:
            error = None
