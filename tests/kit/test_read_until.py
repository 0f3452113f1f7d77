"""Reading the beginning of a body up to a mark: nothing is lost for whoever reads the body afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import httpx
import httpx2
import pytest

import flexmw

PIECES = (b"one\n", b"two\n", b"mark\n", b"four\n")


class UpToMark:
    name, api, order = "acme.mark", 1, flexmw.Order()

    def __init__(self, **options: Any) -> None:
        self.read: list[Any] = []
        self.options = options

    def flow(self, request: flexmw.Request) -> flexmw.Flow:
        response = yield from flexmw.send(request)
        self.read.append((yield flexmw.Read(response, 1000, until=lambda piece: b"mark" in piece, **self.options)))
        return response


def pieces() -> Iterator[bytes]:
    yield from PIECES


async def pieces_async() -> AsyncIterator[bytes]:
    for piece in PIECES:
        yield piece


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize(("partial", "read"), [(True, b"one\ntwo\nmark\n"), (False, None)])
def test_a_read_ends_at_the_piece_that_the_function_names(library: Any, partial: bool, read: bytes | None) -> None:
    component = UpToMark(partial=partial)
    transport = library.MockTransport(lambda request: library.Response(200, content=pieces()))
    with flexmw.wrap_client(library.Client(transport=transport), component) as client:
        assert client.get("http://a/").content == b"".join(PIECES)
    assert component.read == [read]


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_an_async_read_ends_at_the_same_piece(library: Any) -> None:
    component = UpToMark(partial=True)
    transport = library.MockTransport(lambda request: library.Response(200, content=pieces_async()))

    async def call() -> bytes:
        async with flexmw.wrap_client(library.AsyncClient(transport=transport), component) as client:
            response = await client.get("http://a/")
            content: bytes = response.content
            return content

    assert anyio.run(call) == b"".join(PIECES)
    assert component.read == [b"one\ntwo\nmark\n"]
