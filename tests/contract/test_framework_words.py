"""Texts that frameworks write by themselves, and texts of apps that look like them."""

from __future__ import annotations

from typing import Any

import pytest

from flexmw.contract import OWN
from flexmw.envelope.core import AppResponse, Rules, decide

TEXT = ((b"content-type", b"text/plain; charset=utf-8"),)


def error(status: int, text: str, **facts: Any) -> tuple[str, str, str | None]:
    made = decide(AppResponse(status, TEXT, text.encode(), **facts), Rules()).error
    return made.code or "", made.message, made.param


JSON = ("invalid_json", OWN["invalid_json"].message, None)


@pytest.mark.parametrize(
    "text",
    [
        "Bad Request: Declared Content-Type is application/json but the content cannot be parsed as JSON.",
        "JSON parse error - Expecting value: line 1 column 1 (char 0)",
        "Could not parse JSON body - 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
        "Could not parse an empty JSON body",
        "JSON is malformed: invalid character (byte 0)",
        "Input data was truncated",
        "Failed when parsing body as json",
        "Failed to decode JSON",
        "There was an error parsing the body",
    ],
)
def test_a_body_that_is_not_json_has_the_same_words_on_every_framework(text: str) -> None:
    assert error(400, text) == JSON


def test_words_about_any_body_stay_where_the_body_is_a_form() -> None:
    text = "There was an error parsing the body"
    assert error(400, text, is_form=True) == ("invalid_request", text, None)


@pytest.mark.parametrize(
    ("status", "text", "code"),
    [
        (404, "Requested URL /nowhere/sk-secret-0123456789 not found", "unknown_url"),
        (405, "Method DELETE not allowed for URL /ok", "method_not_allowed"),
    ],
)
def test_the_standing_words_of_a_router_do_not_reach_the_caller(status: int, text: str, code: str) -> None:
    made = decide(AppResponse(status, TEXT, text.encode()), Rules()).error
    assert made.code == code
    assert "/" not in made.message


@pytest.mark.parametrize(
    ("text", "message", "param"),
    [
        ('The "n" parameter is required.', "n: Field required", "n"),
        ('The "n" parameter is invalid. Input should be a valid integer.', "n: Input should be a valid integer.", "n"),
        ('The "x-shop" header is required.', "x-shop: Field required", "x-shop"),
        ('The value provided for the "x-shop" header is invalid. No such shop.', "x-shop: No such shop.", "x-shop"),
    ],
)
def test_a_parameter_that_falcon_refuses_is_named(text: str, message: str, param: str) -> None:
    assert error(400, text) == ("validation_error", message, param)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (400, "JSON is malformed"),
        (400, "The parameter is required."),
        (404, "Input data was truncated"),
        (404, "The shop was not found"),
        (409, "Requested URL /a not found"),
    ],
)
def test_words_of_the_app_stay(status: int, text: str) -> None:
    assert error(status, text)[1] == text


def test_the_phrase_of_the_status_in_front_of_a_message_is_left_out() -> None:
    assert error(400, "Bad Request: n is missing")[1] == "n is missing"
    assert error(400, "Bad Request:")[1] == "Bad Request:"
    assert error(400, "Bad news: n is missing")[1] == "Bad news: n is missing"
