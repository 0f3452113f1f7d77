"""Which bodies can be sent again, for the stream classes of both libraries."""

from __future__ import annotations

import io
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import httpx
import httpx2
import pytest

from flexmw.retry.body import body_bytes, mark_consumed, rewinder

both = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])


def stream(library: ModuleType, **body: Any) -> Any:
    return library.Request("POST", "http://test", **body).stream


class Deaf(io.BytesIO):
    def seekable(self) -> bool:
        return False


@both
def test_bodies_in_memory_are_always_ready(library: ModuleType) -> None:
    for body in ({}, {"content": b"x"}, {"json": {}}, {"data": {"a": "b"}}):
        again = rewinder(stream(library, **body))
        assert again is not None
        again()


@both
def test_a_file_goes_back_to_where_it_was(library: ModuleType) -> None:
    file = io.BytesIO(b"skipped:payload")
    file.seek(8)
    body = stream(library, content=file)
    again = rewinder(body)
    assert again is not None
    assert b"".join(body) == b"payload"
    again()
    assert b"".join(body) == b"payload"


@both
def test_a_list_is_read_again(library: ModuleType) -> None:
    body = stream(library, content=[b"pay", b"load"])
    again = rewinder(body)
    assert again is not None
    assert b"".join(body) == b"payload"
    again()
    assert b"".join(body) == b"payload"


@both
def test_what_is_gone_once_read_is_never_replayed(library: ModuleType) -> None:
    closed = io.BytesIO(b"x")
    body = stream(library, content=closed)
    closed.close()
    assert rewinder(body) is None
    assert rewinder(stream(library, content=Deaf(b"x"))) is None
    assert rewinder(stream(library, content=iter([b"x"]))) is None
    assert rewinder(stream(library, content=(chunk for chunk in [b"x"]))) is None
    assert rewinder(object()) is None


@both
@pytest.mark.parametrize(
    ("files", "ready"),
    [
        ({"f": io.BytesIO(b"x")}, True),
        ({"f": b"x"}, True),
        ({"f": ("name", io.BytesIO(b"x"), "text/plain")}, True),
        ({"f": io.BytesIO(b"x"), "g": Deaf(b"y")}, False),
    ],
)
def test_a_multipart_body_is_as_good_as_its_worst_file(library: ModuleType, files: Any, ready: bool) -> None:
    assert (rewinder(stream(library, data={"k": "v"}, files=files)) is not None) is ready


@both
def test_only_bytes_in_memory_are_shown(library: ModuleType) -> None:
    assert body_bytes(stream(library, json={"a": 1})) == b'{"a":1}'
    assert body_bytes(stream(library, content=io.BytesIO(b"x"))) is None
    assert body_bytes(stream(library, content=iter([b"x"]))) is None


class Counted:
    """What a caller may write around a file."""

    def __init__(self, file: Any) -> None:
        self._stream = file


class ByteStream(Counted):
    """One that has the name of the library's."""


def test_what_another_class_does_when_it_is_read_again_is_not_known() -> None:
    assert rewinder(Counted(io.BytesIO(b"x"))) is None
    assert rewinder(ByteStream(b"x")) is None
    assert body_bytes(ByteStream(b"x")) is None


@pytest.mark.anyio
@both
async def test_a_file_that_is_sought_by_awaiting_is_not_replayed(library: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"payload")
    async with await anyio.open_file(tmp_path / "body", "rb") as file:
        assert file.seekable()
        assert rewinder(stream(library, content=file)) is None


@both
def test_an_iterator_that_is_spent_raises_as_a_generator_does(library: ModuleType) -> None:
    body = stream(library, content=iter([b"pay", b"load"]))
    mark_consumed(body)
    assert b"".join(body) == b"payload"
    with pytest.raises(library.StreamConsumed):
        list(body)
    mark_consumed(object())
