"""Bodies that report their end, read in parts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from flexmw.kit.bodies import AsyncObservedBody, ObservedBody, Replayed

CHUNKS = [b"a", b"b", b"c"]


class Source:
    """Gives its chunks anew to each iterator."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in CHUNKS:
            yield chunk

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_rest_of_an_async_body_begins_where_reading_stopped(backend: str) -> None:
    ends: list[Any] = []

    async def read_in_two_parts() -> list[bytes]:
        body = AsyncObservedBody(Source(), ends.append)
        rest = aiter(body)
        first = await anext(rest)
        assert ends == []
        return [chunk async for chunk in Replayed([first], rest, body)]

    assert anyio.run(read_in_two_parts, backend=backend) == CHUNKS
    assert ends == [None]


class Slow:
    """Reads through a generator inside a generator, and waits for ever after its first chunk."""

    def __init__(self) -> None:
        self.open = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.open += 1
        try:
            async for chunk in self.chunks():
                yield chunk
        finally:
            self.open -= 1

    async def chunks(self) -> AsyncIterator[bytes]:
        self.open += 1
        try:
            yield CHUNKS[0]
            yield CHUNKS[1]
            await anyio.sleep_forever()
        finally:
            self.open -= 1

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("times", [1, 2], ids=["read-once", "read-twice"])
def test_a_body_that_is_closed_after_its_beginning_leaves_no_generator_open(backend: str, times: int) -> None:
    source, ends = Slow(), list[Any]()

    async def read_the_beginning() -> None:
        body: Any = AsyncObservedBody(source, ends.append)
        for _ in range(times):
            rest = aiter(body)
            body = AsyncObservedBody(Replayed([await anext(rest)], rest, body), ends.append)
        assert source.open == 2
        await body.aclose()
        assert source.open == 0
        await body.aclose()

    anyio.run(read_the_beginning, backend=backend)
    assert [type(end) for end in ends] == [GeneratorExit] * (times + 1)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_closing_ends_although_the_rest_of_a_foreign_body_does_not(backend: str) -> None:
    class Endless(Source):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                yield b"a"

    async def read_the_beginning() -> None:
        rest = aiter(Endless())
        await Replayed([await anext(rest)], rest, Endless()).aclose()
        await rest.aclose()  # type: ignore[attr-defined]

    anyio.run(read_the_beginning, backend=backend)


def test_the_rest_of_a_body_begins_where_reading_stopped() -> None:
    ends: list[Any] = []
    body = ObservedBody(CHUNKS, ends.append)
    rest = iter(body)
    first = next(rest)
    assert ends == []
    assert list(Replayed([first], rest, body)) == CHUNKS
    assert ends == [None]
