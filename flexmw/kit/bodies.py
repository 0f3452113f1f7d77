"""Response bodies for flows: bodies that report their end, and bodies that are put back after they were read.

The classes know neither httpx nor httpx2. ``flexmw/httpx.py`` and ``flexmw/httpx2.py`` add the stream class of each.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias

import anyio

__all__ = ["AsyncObservedBody", "Broken", "ObservedBody", "OnEnd", "Replayed", "forget", "ignore_end"]

OnEnd: TypeAlias = Callable[[BaseException | None], None]
"""Called once when a body ends: with ``None`` after its last byte, else with the exception that ended it. A body that
is closed early ends with ``GeneratorExit``."""


_MAX_STEPS: Final = 10_000
"""Pieces that a closed body may still have in memory before the step of reading that is cancelled: 64 KiB in chunks of
one byte. The bound is for a foreign body that never waits and never ends."""


class _Observed:
    """A stream whose end is reported once.

    :param stream: the body.
    :param on_end: called when the body ends.
    :param tap: called with each chunk before the reader gets it.
    """

    def __init__(self, stream: Any, on_end: OnEnd, tap: Callable[[bytes], None] | None = None) -> None:
        self._stream = stream
        self._on_end: OnEnd | None = on_end
        self._tap = tap

    def _end(self, error: BaseException | None) -> None:
        on_end = self._on_end
        self._on_end = None
        if on_end is not None:
            on_end(error)


class ObservedBody(_Observed):
    """A body that reports its end, for a blocking client."""

    def __iter__(self) -> Iterator[bytes]:
        tap = self._tap
        try:
            if tap is None:
                yield from self._stream
            else:
                for chunk in self._stream:
                    tap(chunk)
                    yield chunk
        except BaseException as error:
            self._end(error)
            raise
        if (on_end := self._on_end) is not None:
            self._on_end = None
            on_end(None)

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            if self._on_end is not None:
                self._end(GeneratorExit())


class AsyncObservedBody(_Observed):
    """A body that reports its end, for an async client."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _AsyncChunks(self, self._stream.__aiter__().__anext__, self._tap)

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            if self._on_end is not None:
                self._end(GeneratorExit())


class _AsyncChunks:
    """Iterates over an observed body once.

    Not an async generator: an event loop keeps a list of those that are alive, which costs more than a body of one
    chunk. Not the body itself: whoever goes on with an iterator calls ``aiter()`` again, which must not begin anew.
    """

    __slots__ = ("_body", "_next", "_tap")

    def __init__(
        self, body: AsyncObservedBody, next_chunk: Callable[[], Awaitable[bytes]], tap: Callable[[bytes], None] | None
    ) -> None:
        self._body, self._next, self._tap = body, next_chunk, tap

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._next()
            if self._tap is not None:
                self._tap(chunk)
        except StopAsyncIteration:
            self._body._end(None)
            raise
        except BaseException as error:
            self._body._end(error)
            raise
        return chunk


class Broken:
    """The rest of a body that was given up: reading it raises.

    :param error: what is raised.
    """

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        raise self._error

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        raise self._error


class Replayed:
    """A body that was read in part: it gives the chunks that were read, and then the rest as it arrives.

    :param chunks: what was read.
    :param rest: iterates over the rest; ``None`` if the body was read to its end.
    :param source: the original stream, for closing.
    """

    def __init__(self, chunks: Sequence[bytes], rest: Any, source: Any) -> None:
        self._chunks, self._rest, self._source = chunks, rest, source

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks
        if self._rest is not None:
            yield from self._rest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk
        if self._rest is not None:
            async for chunk in self._rest:
                yield chunk
            self._rest = None

    def close(self) -> None:
        self._source.close()

    async def aclose(self) -> None:
        rest, self._rest = self._rest, None
        try:
            await self._source.aclose()
        finally:
            if rest is not None:
                await _unwind(rest)


async def _unwind(rest: AsyncIterator[bytes]) -> None:
    """End the generators of a body that was read in part and is closed now.

    The generators wait where reading stopped, one inside the other. Closing the outermost would leave those inside to
    the garbage collector, which trio reports. A step of reading that is cancelled ends all of them.
    """
    # What breaks the step says nothing about the response: its body is closed.
    with suppress(Exception), anyio.CancelScope() as scope:
        scope.cancel()
        for _ in range(_MAX_STEPS):
            await anext(rest)


def forget(response: Any) -> None:
    """Remove the body that a response was made with, as by a ``MockTransport``: it would hide a new stream."""
    if response.__dict__.pop("_content", None) is not None:
        response.__dict__.pop("_decoder", None)
        response.is_stream_consumed = response.is_closed = False


def ignore_end(error: BaseException | None) -> None:
    """An ``on_end`` that does nothing."""
