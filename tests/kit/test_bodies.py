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


def test_the_rest_of_a_body_begins_where_reading_stopped() -> None:
    ends: list[Any] = []
    body = ObservedBody(CHUNKS, ends.append)
    rest = iter(body)
    first = next(rest)
    assert ends == []
    assert list(Replayed([first], rest, body)) == CHUNKS
    assert ends == [None]
