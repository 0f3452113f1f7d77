from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmw.contract.idempotent_stream import (
    MAX_START,
    StreamPosition,
    ends_in_blank_line,
    ends_whole,
    format_stream,
    last_event,
    parse_stream,
)

GENERATION = "0f8fad5bd9cb469fa165"
DIGEST = hashlib.sha256(b"").digest()

generations = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=16, max_size=64)


@given(
    generations,
    st.none() | st.integers(0, MAX_START),
    st.none() | st.binary(min_size=32, max_size=32),
    st.booleans(),
)
def test_a_field_is_read_as_it_was_written(
    generation: str, start: int | None, digest: bytes | None, confirm: bool
) -> None:
    value = format_stream(generation, start, digest, confirm=confirm)
    assert parse_stream([value]) == StreamPosition(generation, start, digest, confirm)


def test_the_field_looks_as_the_page_says() -> None:
    assert format_stream(GENERATION) == f'"{GENERATION}"'
    assert format_stream(GENERATION, 0, DIGEST, confirm=True) == (
        f'"{GENERATION}";from=0;sha256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:;confirm'
    )


def test_a_parameter_of_a_later_version_is_ignored() -> None:
    assert parse_stream([f'"{GENERATION}";from=3;colour=green']) == StreamPosition(GENERATION, 3)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "place 0"),
        ("abc", "quoted string"),
        ("?1", "quoted string"),
        ("12", "quoted string"),
        ('("abc")', "place 0"),
        ('"short"', "16 to 64 characters, not 5"),
        (f'"{"x" * 65}"', "16 to 64 characters, not 65"),
        (f'"{GENERATION}";from', "'from' must be an integer"),
        (f'"{GENERATION}";from=-1', "'from' must be an integer"),
        (f'"{GENERATION}";from=1.0', "'from' must be an integer"),
        (f'"{GENERATION}";from="1"', "'from' must be an integer"),
        (f'"{GENERATION}";from=1000000000000000', "place"),
        (f'"{GENERATION}";from={"9" * 1_000_000}', "longer than 512"),
        (f'"{GENERATION}";sha256=:AA==:', "32 bytes"),
        (f'"{GENERATION}";sha256="{"x" * 32}"', "32 bytes"),
        (f'"{GENERATION}";confirm=1', "boolean"),
        (f'"{GENERATION}";from=7, "{GENERATION}";from=8', "unexpected characters"),
        (f'"{GENERATION}\n"', "place 0"),
    ],
)
def test_a_field_that_is_not_valid_is_refused_with_words(value: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_stream([value])


@pytest.mark.parametrize("values", [[], [f'"{GENERATION}"'] * 2])
def test_the_field_must_occur_once(values: list[str]) -> None:
    with pytest.raises(ValueError, match=f"occurs {len(values)} times"):
        parse_stream(values)


@pytest.mark.parametrize(
    "arguments", [{"start": -1}, {"start": MAX_START + 1}, {"digest": b"short"}, {"generation": "x"}]
)
def test_a_field_that_would_not_be_valid_is_not_written(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|RFC 9651"):
        format_stream(**{"generation": GENERATION, **arguments})


WHOLE = [
    b'data: {"n": 1}\n\ndata: [DONE]\n\n',
    b"data: [DONE]\n\n",
    b"data:[DONE]\r\n\r\n",
    b"data: [DONE]\r\r",
    b'event: message_stop\ndata: {"type": "message_stop"}\n\n',
    b'data: {"type":"message_stop"}\n\n',
    b'event: response.completed\ndata: {"response": {}}\n\n',
    b'data: {"sequence_number": 9, "type": "response.completed"}\n\n',
    b'data: {"error": {"message": "no"}}\n\n',
    b'event: error\ndata: {"type": "error"}\n\n',
]

NOT_WHOLE = [
    b"",
    b"data: [DONE]",
    b"data: [DONE]\n",
    b"data: [DONE]\r\n",
    b"data: [DONE]\r\n\r",
    b'data: {"n": 1}\n\n',
    b'data: [DONE]\n\ndata: {"n": 2}\n\n',
    b'data: {"error": null, "choices": []}\n\n',
    b"data: {not json}\n\n",
    b'data: ["message_stop"]\n\n',
    b'data: {"n": 1, "type": 7}\n\n',
    b"data: " + b'{"a":' * 5000 + b"\n\n",
    b"data: " + b'{"a":' * 700 + b"\n\n",
    b": ping\n\n",
    b"data: message\n\n",
]


@pytest.mark.parametrize("tail", WHOLE)
def test_a_stream_that_ends_with_a_known_terminal_event_is_whole(tail: bytes) -> None:
    assert ends_whole(tail)


@pytest.mark.parametrize("tail", NOT_WHOLE)
def test_any_other_end_proves_nothing(tail: bytes) -> None:
    assert not ends_whole(tail)


@pytest.mark.parametrize("whole", WHOLE)
def test_a_terminal_event_that_was_cut_is_not_whole(whole: bytes) -> None:
    assert not any(ends_whole(whole[:size]) for size in range(len(whole)))


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_event_ends_in_a_blank_line_of_each_line_end(end: bytes) -> None:
    assert ends_in_blank_line(b"data: x" + end + end)
    assert not ends_in_blank_line(b"data: x" + end)
    assert last_event(b"data: 1" + end + end + b"data: 2" + end + end) == b"data: 2" + end + end
    assert last_event(b"data: 1" + end + end + b"data: 2" + end + b"id") == b"data: 2" + end + b"id"
