"""Bodies of answers as flows see them: followed to their end, or put back after they were read.

They know neither library: ``flexmw/httpx.py`` and ``flexmw/httpx2.py`` add each one's stream class.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, TypeAlias

__all__ = ["AsyncFollowed", "Followed", "Replayed", "Watch", "forget", "unheard"]

Watch: TypeAlias = Callable[[BaseException | None], None]


class _Ending:
    """Tells how a body ended, once."""

    def __init__(self, stream: Any, watch: Watch, tap: Callable[[bytes], None] | None = None) -> None:
        self._stream = stream
        self._watch: Watch | None = watch
        self._tap = tap

    def _end(self, error: BaseException | None = None) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch(error)


class Followed(_Ending):
    """A body that tells how it ends, for the blocking client."""

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
        self._end()

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._end(GeneratorExit())


class AsyncFollowed(_Ending):
    """A body that tells how it ends, for the async client."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        tap = self._tap
        try:
            async for chunk in self._stream:
                if tap is not None:
                    tap(chunk)
                yield chunk
        except BaseException as error:
            self._end(error)
            raise
        self._end()

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._end(GeneratorExit())


class Replayed:
    """A body that was read in part: what was read, and then the rest as it comes."""

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

    def close(self) -> None:
        self._source.close()

    async def aclose(self) -> None:
        await self._source.aclose()


def forget(response: Any) -> None:
    """Drop a body that the response was made with (by a ``MockTransport``): it would hide the new one."""
    if response.__dict__.pop("_content", None) is not None:
        response.__dict__.pop("_decoder", None)
        response.is_stream_consumed = response.is_closed = False


def unheard(error: BaseException | None) -> None:
    """A watch that nobody keeps."""
