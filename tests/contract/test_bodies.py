"""What error bodies say: one row for each shape that is seen in the wild, and every JSON value there can be."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmw.contract import ErrorBody
from flexmw.contract.bodies import (
    FOREIGN,
    PartialError,
    complete,
    is_envelope,
    of_text,
    read_error,
    recognise,
    validation,
)
from flexmw.contract.content import decompress, parse
from flexmw.contract.text import one_line

WERKZEUG = "<!doctype html>\n<html lang=en>\n<title>{title}</title>\n<h1>Title</h1>\n<p>{text}</p>\n"
RPC = {"jsonrpc": "2.0", "error": {"code": 1, "message": "m"}}

SHAPES: list[tuple[Any, int, Any]] = [
    ({"error": {"message": "m", "type": "t", "code": "c", "param": "p", "doc_url": "https://d"}}, 400,
     PartialError("m", "t", "c", "p", "https://d")),
    ({"error": {"message": "m", "type": "Bad Request", "code": 400}}, 400, PartialError("m")),
    ({"error": {"message": "m", "code": 1001}}, 400, PartialError("m", code="1001")),
    ({"error": {"message": "m", "type": "None", "code": "None", "param": "None"}}, 400, PartialError("m")),
    (
        {"error": {"type": "not_found_error", "message": "m"}, "type": "error"},
        404,
        PartialError("m", "not_found_error"),
    ),
    ([{"error": {"code": 404, "message": "m", "status": "NOT_FOUND"}}], 404, PartialError("m", code="not_found")),
    ({"error": "Too many."}, 429, PartialError("Too many.")),
    ({"error": "no_credit"}, 402, PartialError(code="no_credit")),
    ({"error": "Not Found", "message": "No cat.", "statusCode": 404}, 404, PartialError("No cat.")),
    ({"error": True, "message": "m"}, 400, PartialError("m")),
    ({"error": "Bad Request", "message": ["a", "b"]}, 400, PartialError("a; b")),
    ({"detail": "m"}, 400, PartialError("m")),
    ({"detail": "m", "code": "token_not_valid"}, 401, PartialError("m", code="token_not_valid")),
    ({"detail": {"error": {"message": "m", "code": "c"}}}, 400, PartialError("m", code="c")),
    ({"detail": {"message": "m"}}, 400, PartialError("m")),
    ({"detail": {"jsonrpc": "2.0", "message": "m"}}, 400, PartialError("m")),
    ({"detail": "Not Found"}, 404, None),
    ({"detail": ["one", "two", "three", "four"]}, 400, PartialError("one; two; three (+1 more)")),
    ({"status_code": 400, "detail": "Validation failed", "extra": [{"key": "n", "message": "bad"}]}, 400,
     PartialError("n: bad", code="validation_error", param="n")),
    ({"status_code": 400, "detail": "Broken", "extra": [{"message": "bad"}]}, 400, PartialError("Broken")),
    ({"type": "https://e/p", "title": "Sold out", "status": 409}, 409, PartialError("Sold out")),
    ({"type": "about:blank", "title": "T", "detail": "m"}, 409, PartialError("m")),
    ({"title": "400 Bad Request", "description": "m"}, 400, PartialError("m")),
    ({"message": "m", "error_code": "E7"}, 400, PartialError("m", code="E7")),
    ({"msg": "m"}, 400, PartialError("m")),
    ({"status": "error", "message": "m"}, 409, PartialError("m")),
    ({"status": "fail", "message": "m", "error": "sold_out"}, 409, PartialError("m", code="sold_out")),
    ({"status": "NOT_FOUND", "message": "m"}, 404, PartialError("m", code="not_found")),
    ({"error": "sold_out", "detail": "m"}, 409, PartialError("m", code="sold_out")),
    ({"error": "Conflict", "detail": "m"}, 409, PartialError("m")),
    ({"errors": ["a", "b"]}, 400, PartialError("a; b")),
    ({"errors": [{"detail": "a", "status": "400"}]}, 400, PartialError("a")),
    ({"errors": {"n": ["bad"]}}, 400, PartialError("n: bad", code="validation_error", param="n")),
    ({"errors": []}, 400, None),
    ({"errors": [{}]}, 400, None),
    (["a", "b"], 400, PartialError("a; b")),
    ({"n": ["bad", "worse"]}, 400, PartialError("n: bad; n: worse", code="validation_error", param="n")),
    ({"n": ["bad", 7]}, 400, None),
    ({"code": True}, 400, None),
    ({}, 400, None),
    (7, 400, None),
    ("text", 400, None),
    (RPC, 404, FOREIGN),
    ([RPC, RPC], 404, FOREIGN),
    ([], 404, None),
    ({"errors": [{"message": "m", "path": ["a"]}]}, 400, FOREIGN),
    ({"error": "invalid_grant"}, 400, FOREIGN),
    ({"error": "anything", "error_description": "m"}, 400, FOREIGN),
]  # fmt: skip


@pytest.mark.parametrize(("value", "status", "expected"), SHAPES, ids=[str(n) for n in range(len(SHAPES))])
def test_a_known_shape_says_this(value: Any, status: int, expected: Any) -> None:
    assert recognise(value, status) == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["error", "errors", "detail", "message", "type", "code", "param", "title", "extra", "key", "loc", "msg"]
            )
            | st.text(max_size=5),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)


@given(json_values, st.integers(400, 599))
def test_any_json_value_becomes_an_envelope_or_passes(value: Any, status: int) -> None:
    found = recognise(value, status)
    if found is FOREIGN:
        return
    assert not isinstance(found, type(FOREIGN))
    error = complete(found, status)
    written = error.encode()
    assert is_envelope(json.loads(written)) or "None" in (error.code, error.type, error.param)
    assert ErrorBody.decode(written) is not None
    assert len(error.message) <= 2003
    assert "\n" not in error.message


@given(json_values)
def test_what_is_read_once_is_read_the_same_again(value: Any) -> None:
    found = recognise(value, 400)
    if isinstance(found, PartialError):
        again = recognise(json.loads(complete(found, 400).encode()), 400)
        assert isinstance(again, PartialError)
        assert complete(again, 400) == complete(found, 400)


@given(
    st.binary(max_size=200), st.sampled_from(["", "text/plain; charset=latin-1", "a; charset=nope", "x; charset=idna"])
)
def test_any_bytes_can_be_read(body: bytes, kind: str) -> None:
    value, text = parse(body, kind)
    assert isinstance(text, str)
    assert value is None or json.dumps(value)


def test_a_charset_that_nobody_knows_is_read_as_utf_8() -> None:
    assert parse("café".encode(), "text/plain; charset=nope") == (None, "café")


def test_validation_never_repeats_the_input_and_is_bounded() -> None:
    errors = [
        {
            "loc": ("body", "messages", 0, "content"),
            "msg": "Field required",
            "input": "sk-canary-0123456789",
            "type": "x",
        }
    ] * 7
    partial = validation(errors)
    assert partial is not None
    assert partial.param == "messages[0].content"
    assert partial.message is not None
    assert partial.message.endswith("(+4 more)")
    assert "canary" not in partial.message


@pytest.mark.parametrize("loc", [None, 7, (), ("body",)])
def test_validation_without_a_place_says_what(loc: Any) -> None:
    assert validation([{"loc": loc, "msg": "Too odd"}]) == PartialError("Too odd", code="validation_error")


def test_validation_without_words_has_some() -> None:
    assert validation([{"loc": ["query", "n"]}]) == PartialError(
        "n: Invalid value.", code="validation_error", param="n"
    )
    assert validation([7]) is None


SANIC = "\u26a0\ufe0f {title}\n" + "=" * 26 + "\n{text}\n\n"

SANIC_CRASH = "The application encountered an unexpected error and could not continue."


@pytest.mark.parametrize(
    ("text", "status", "message"),
    [
        (SANIC.format(title="429 \u2014 Too Many Requests", text="Slow down, please."), 429, "Slow down, please."),
        (SANIC.format(title="500 \u2014 Internal Server Error", text=SANIC_CRASH), 500, None),
        (SANIC.format(title="500 \u2014 Error", text='Traceback:\n  File "/srv/a.py", line 3, in f'), 500, None),
        ("No seats\n left", 400, "No seats left"),
        ("Not Found", 404, None),
        ("404 Not Found", 404, None),
        ("<html><body>x", 400, None),
        ("a\0b", 400, None),
        ('Traceback (most recent call last):\n  File "x", line 1', 500, None),
        ('{"detail": "cut of', 400, None),
        (WERKZEUG.format(title="429 Too Many Requests", text="It&#39;s full"), 429, "It's full"),
        (WERKZEUG.format(title="500 Internal Server Error", text="The server broke"), 500, None),
    ],
)
def test_a_text_says_this(text: str, status: int, message: str | None) -> None:
    partial = of_text(text, status)
    assert (partial.message if partial else None) == message


def test_compressed_bodies_are_read_within_a_bound() -> None:
    plain = b'{"detail": "m"}' * 10
    assert decompress(plain, "", 10) == plain
    assert decompress(gzip.compress(plain), "gzip", 1000) == plain
    assert decompress(zlib.compress(plain), "deflate", 1000) == plain
    assert decompress(gzip.compress(b"0" * 10**6), "gzip", 1000) is None
    assert decompress(b"no gzip", "gzip", 1000) is None
    assert decompress(plain, "br", 1000) is None


def test_a_secret_makes_an_envelope_one_that_must_be_rewritten() -> None:
    def envelope(message: str, **more: Any) -> dict[str, Any]:
        return {"error": {"message": message, "type": "t", "code": "c", **more}}

    assert is_envelope(envelope("fine"))
    assert not is_envelope(envelope("sk-0123456789abcdef"))
    assert not is_envelope(envelope("fine", param="None"))
    assert is_envelope(envelope("long " * 2000))


def test_one_line_is_bounded_and_clean() -> None:
    assert one_line("a\r\n\tb\x00c") == "a b c"
    assert len(one_line("x" * 10_000, 100)) == 103


@pytest.mark.parametrize("indent", ["", "  ", "\t"])
def test_a_frame_of_a_traceback_is_recognised_at_its_indent(indent: str) -> None:
    assert of_text(f'failed\n{indent}File "/srv/app.py", line 3, in run') is None


@pytest.mark.parametrize(
    "charset", ["punycode", "idna", "unicode_escape", "raw_unicode_escape", "zlib_codec", "no-such"]
)
def test_a_codec_that_is_no_charset_is_not_used(charset: str) -> None:
    assert parse(rb"caf\xe9-\q", f"text/plain; charset={charset}") == (None, r"caf\xe9-\q")


@pytest.mark.parametrize("charset", ["latin-1", "iso-8859-15", "windows-1252", "macroman"])
def test_a_charset_is_used(charset: str) -> None:
    assert parse("Não".encode(charset), f"text/plain; charset={charset}") == (None, "Não")


def test_a_json_string_is_the_message() -> None:
    assert read_error("No seats left.", '"No seats left."', 409) == PartialError("No seats left.")
