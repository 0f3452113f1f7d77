"""The attempt number of an SDK, read by one parser for every component."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmw.contract.sdk import parse_retry_count


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ("0", 0),
        ("2", 2),
        ("99999", 99999),
        ("100000", 100000),
        ("9" * 5000, 999_999_999),
        ("-1", None),
        ("", None),
        ("x", None),
        (None, None),
        ("٣", None),
        ("²", None),
    ],
)
def test_the_retry_count_of_an_sdk(value: str | None, count: int | None) -> None:
    assert parse_retry_count(value) == count
    if value is not None:
        assert parse_retry_count(value.encode()) == count


@given(st.binary())
def test_a_header_value_is_read_the_same_as_text_and_as_bytes(value: bytes) -> None:
    assert parse_retry_count(value) == parse_retry_count(value.decode("latin-1"))
