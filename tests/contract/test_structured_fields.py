from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmw.contract.structured_fields import Token, format_item, parse_item

names = st.from_regex(r"[a-z*][a-z0-9_.*-]{0,9}", fullmatch=True)
values = st.one_of(
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)),
    st.from_regex(r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]{0,9}", fullmatch=True).map(Token),
    st.integers(-999_999_999_999_999, 999_999_999_999_999),
    st.decimals(-999_999_999, 999_999_999, places=2),
    st.binary(max_size=40),
    st.booleans(),
)


@given(values, st.dictionaries(names, values, max_size=4))
def test_an_item_is_read_as_it_was_written(bare: Any, parameters: dict[str, Any]) -> None:
    read, read_parameters = parse_item(format_item(bare, parameters))
    assert (read, type(read)) == (bare, type(bare))
    assert read_parameters == parameters
    assert {name: type(value) for name, value in read_parameters.items()} == {
        name: type(value) for name, value in parameters.items()
    }


@pytest.mark.parametrize(
    ("text", "item"),
    [
        ('  "a"  ', ("a", {})),
        ('"a";  b;c=?0', ("a", {"b": True, "c": False})),
        ('"a";b=1;b=2', ("a", {"b": 2})),
        (r'"a\"b\\c"', ('a"b\\c', {})),
        ("12.5", (Decimal("12.5"), {})),
        ("-7;x=:aGk=:", (-7, {"x": b"hi"})),
        ("gzip/1;q=0.5", ("gzip/1", {"q": Decimal("0.5")})),
    ],
)
def test_the_examples_of_the_standard_are_read(text: str, item: Any) -> None:
    assert parse_item(text) == item


@pytest.mark.parametrize(
    "text",
    ["", " ", '"a', '"a"b', '"a", "b"', '"ä"', '"a\tb"', r'"a\n"', '"a"\t', '"a";', '"a" ;b', '"a";B=1', '"a";b=',
     "(1 2)", "1234567890123456", "1234567890123.1",
     "1.2345", "1.", "--1", "?2", ":a:", ":a b=:", ":aGk=", "@1", '%"a"'],
)  # fmt: skip
def test_what_is_not_an_item_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"place|base64"):
        parse_item(text)


@pytest.mark.parametrize("text", ["a\nb", "ä", "\x7f"])
def test_a_string_that_no_field_can_hold_is_not_written(text: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        format_item(text, {})
