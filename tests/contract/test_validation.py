"""Validation errors never repeat input.

The promise in SECURITY.md: "no input of a failed validation in a 4xx".
"""

from __future__ import annotations

from typing import Any

import pytest

from flexmw.contract.validation import validation

INPUT = "S3CRETINPUT"


def message_of(**error: Any) -> str:
    partial = validation([{"loc": ("body", "v"), **error}])
    assert partial is not None
    assert partial.message is not None
    return partial.message


@pytest.mark.parametrize(
    "value",
    [INPUT, INPUT.lower(), {"v": INPUT}, [1, [INPUT]], {INPUT: 1}, 12345678, {"a": {"b": 12345678}}, ["x" * 100_000]],
    ids=str,
)
@pytest.mark.parametrize("kind", ["value_error", "assertion_error", "a_type_of_the_app"])
def test_a_validator_whose_words_repeat_the_input_is_not_quoted(kind: str, value: Any) -> None:
    for text in (f"Value error, bad {value}", f"bad value {INPUT[:8]}... or 1234567"):
        shown = message_of(type=kind, msg=text, input=value)
        assert INPUT[:6].lower() not in shown.lower()
        assert "123456" not in shown


def test_a_short_input_that_is_a_word_of_the_message_is_not_repeated() -> None:
    assert message_of(type="value_error", msg="Value error, not xyz", input="xyz") == "v: The value is not valid."


def test_the_words_of_a_validator_stay_where_they_repeat_nothing() -> None:
    text = "Value error, the end must not be before the start"
    assert message_of(type="value_error", msg=text, input={"from": 3, "to": "2026"}) == f"v: {text}"
    assert message_of(type="value_error", msg=text) == f"v: {text}"


def test_the_tag_of_a_union_is_not_repeated_but_the_expected_tags_are_listed() -> None:
    error = {
        "type": "union_tag_invalid",
        "msg": f"Input tag '{INPUT}' found using 'kind' does not match any of the expected tags: 'a', 'b'",
        "ctx": {"discriminator": "'kind'", "tag": INPUT, "expected_tags": "'a', 'b'"},
    }
    assert message_of(**error) == "v: The tag is not one of the expected tags: 'a', 'b'"


@pytest.mark.parametrize(
    ("error", "param"),
    [
        ({"type": "extra_forbidden", "loc": ("body", "a", INPUT)}, "a.*"),
        ({"type": "unexpected_keyword_argument", "loc": ("body", INPUT)}, "*"),
        ({"type": "int_parsing", "loc": ("body", "table", INPUT, "[key]")}, "table.*"),
        ({"type": "int_parsing", "loc": ("body", "items", 3, "content")}, "items[3].content"),
    ],
)
def test_a_name_that_the_caller_has_chosen_becomes_a_star(error: dict[str, Any], param: str) -> None:
    partial = validation([{"msg": "Wrong.", **error}])
    assert partial is not None
    assert (partial.param, partial.message) == (param, f"{param}: Wrong.")


def test_names_that_no_model_has_become_stars_where_the_names_are_known() -> None:
    partial = validation([{"msg": "Wrong.", "loc": ("body", "table", INPUT, "n", 0)}], frozenset({"table", "n"}))
    assert partial is not None
    assert partial.param == "table.*.n[0]"


def test_a_text_that_quotes_the_input_is_replaced_by_the_text_of_its_type() -> None:
    shown = message_of(type="uuid_parsing", msg=f"Input should be a valid UUID, found `{INPUT}`", input=INPUT)
    assert shown == "v: Input should be a valid UUID"


def test_an_input_without_texts_and_numbers_is_repeated_by_no_message() -> None:
    text = "Value error, the list must not be empty"
    assert message_of(type="value_error", msg=text, input=[None, True]) == f"v: {text}"
