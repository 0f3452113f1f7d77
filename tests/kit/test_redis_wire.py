"""The wire format of redis: commands to bytes, and any bytes that a server may send to replies."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given
from redis.exceptions import InvalidResponse, NoScriptError, ResponseError

from flexmw.kit.redis_wire import ReplyReader, pack

_SCALARS = st.none() | st.integers() | st.binary(max_size=40)
_REPLIES = st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=4), max_leaves=12)


def encoded(reply: Any) -> bytes:
    """A reply as a server sends it in RESP2."""
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    return b"*%d\r\n%b" % (len(reply), b"".join(map(encoded, reply)))


@given(replies=st.lists(_REPLIES, max_size=6), cuts=st.lists(st.integers(0, 400), max_size=8))
def test_replies_are_the_same_wherever_the_bytes_are_cut(replies: list[Any], cuts: list[int]) -> None:
    data = b"".join(map(encoded, replies))
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    reader = ReplyReader()
    read = [reply for start, end in pairwise(edges) for reply in reader.feed(data[start:end])]
    assert read == replies


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"+OK\r\n", b"OK"),
        (b"_\r\n", None),
        (b"*-1\r\n", None),
        (b"#t\r\n", True),
        (b",3.5\r\n", 3.5),
        (b"(123456789012345678901234567890\r\n", 123456789012345678901234567890),
        (b"=7\r\ntxt:abc\r\n", b"abc"),
        (b"%1\r\n+a\r\n:1\r\n", {b"a": 1}),
        (b"~2\r\n:1\r\n:2\r\n", [1, 2]),
        (b"|1\r\n+ttl\r\n:3600\r\n:7\r\n", 7),
    ],
)
def test_a_type_of_resp_3_is_a_value(data: bytes, reply: Any) -> None:
    whole, bytewise = ReplyReader(), ReplyReader()
    assert whole.feed(data) == [reply]
    assert [one for place in range(len(data)) for one in bytewise.feed(data[place : place + 1])] == [reply]


def test_a_message_that_answers_no_command_is_left_out() -> None:
    assert ReplyReader().feed(b">2\r\n+invalidate\r\n*0\r\n:1\r\n") == [1]


def test_an_error_is_a_value_with_its_code() -> None:
    missing, other, long = ReplyReader().feed(b"-NOSCRIPT No such script\r\n-ERR unknown command\r\n!7\r\nOOM big\r\n")
    assert type(missing) is NoScriptError
    assert (type(other), str(other)) == (ResponseError, "unknown command")
    assert str(long) == "OOM big"


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad Request\r\n", b":abc\r\n", b"*1000\r\n" * 2000])
def test_bytes_of_another_protocol_are_named(data: bytes) -> None:
    with pytest.raises(InvalidResponse, match="Protocol Error"):
        ReplyReader().feed(data)


def test_a_large_reply_in_many_pieces_is_copied_once() -> None:
    reader, piece = ReplyReader(), b"x" * 65_536
    assert reader.feed(b"$%d\r\n" % (len(piece) * 64)) == []
    joined: list[Any] = []
    for _ in range(64):
        assert reader.feed(piece) == []
        joined.append(len(reader._chunks))
    assert joined == list(range(2, 66))
    assert reader.feed(b"\r\n") == [piece * 64]


def test_a_command_takes_text_bytes_and_numbers() -> None:
    assert pack("GET", "é", b"\xff", -1) == b"*4\r\n$3\r\nGET\r\n$2\r\n\xc3\xa9\r\n$1\r\n\xff\r\n$2\r\n-1\r\n"
