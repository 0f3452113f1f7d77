from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmw.contract import ErrorBody

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
BODIES = st.builds(
    ErrorBody,
    message=TEXT,
    type=TEXT,
    code=st.none() | TEXT,
    param=st.none() | TEXT,
    doc_url=st.none() | TEXT,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
GOOD = {"message": "m", "type": "t", "code": "c"}


@given(body=BODIES, null_param=st.booleans())
def test_what_is_encoded_is_decoded_to_the_same(body: ErrorBody, null_param: bool) -> None:
    assert ErrorBody.decode(body.encode(null_param=null_param)) == body


@given(body=BODIES, null_param=st.booleans())
def test_the_encoding_is_compact_utf8_json_with_the_contract_s_keys_in_order(body: ErrorBody, null_param: bool) -> None:
    raw = body.encode(null_param=null_param)
    value = json.loads(raw.decode("utf-8"))
    assert raw == json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    expected = ["message", "type", "param", "code", "doc_url"]
    if body.param is None and not null_param:
        expected.remove("param")
    if body.doc_url is None:
        expected.remove("doc_url")
    assert list(value) == ["error"]
    assert list(value["error"]) == expected


def test_a_code_that_is_unknown_is_null_and_the_key_is_there() -> None:
    assert ErrorBody(message="m", type="t").encode() == b'{"error":{"message":"m","type":"t","code":null}}'


def test_a_param_that_is_unknown_is_null_only_when_asked_for() -> None:
    body = ErrorBody(message="m", type="t", code="c")
    assert body.as_dict(null_param=True)["error"]["param"] is None
    assert "param" not in body.as_dict()["error"]


@given(text=st.text(st.characters(categories=["Cs", "Lu"]), min_size=1, max_size=9))
def test_a_lone_surrogate_never_breaks_a_response(text: str) -> None:
    decoded = ErrorBody.decode(ErrorBody(message=text, type="t").encode())
    assert decoded is not None
    assert list(decoded.message) == ["?" if 0xD800 <= ord(c) < 0xE000 else c for c in text]


@given(error=st.dictionaries(st.sampled_from(["message", "type", "code", "param", "doc_url", "x"]), JSON))
def test_a_body_keeps_the_contract_or_is_none(error: dict[str, Any]) -> None:
    body = ErrorBody.from_json({"error": error})
    strict = isinstance(error.get("message"), str) and isinstance(error.get("type"), str) and "code" in error
    strict = strict and (error["code"] is None or isinstance(error["code"], str))
    assert (body is not None) == strict
    if body is not None:
        assert (body.message, body.type, body.code) == (error["message"], error["type"], error["code"])
        for name in ("param", "doc_url"):
            value = error.get(name)
            assert getattr(body, name) == (value if isinstance(value, str) else None)


@pytest.mark.parametrize(
    "change", [{"message": None}, {"type": None}, {"code": 402}, {"message": 1}, {"type": ["t"]}, {"code": False}]
)
def test_a_field_of_a_wrong_type_is_no_contract(change: dict[str, Any]) -> None:
    assert ErrorBody.from_json({"error": GOOD}) == ErrorBody(message="m", type="t", code="c")
    assert ErrorBody.from_json({"error": {**GOOD, **change}}) is None


@pytest.mark.parametrize("missing", ["message", "type", "code"])
def test_a_field_that_is_missing_is_no_contract(missing: str) -> None:
    assert ErrorBody.from_json({"error": {name: value for name, value in GOOD.items() if name != missing}}) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"\xff\xfe\xff",
        b"null",
        b"[]",
        b'"error"',
        b"{}",
        b'{"error": "x"}',
        b'{"error": [1]}',
        b'{"error": null}',
        b'{"detail": "Not Found"}',
        b"[" * 200_000,
        b"1" * 10_000,
    ],
    ids=lambda body: repr(body[:12]),
)
def test_any_other_body_is_none_and_raises_nothing(body: bytes) -> None:
    assert ErrorBody.decode(body) is None


@given(body=st.binary(max_size=200))
def test_no_bytes_raise(body: bytes) -> None:
    ErrorBody.decode(body)
