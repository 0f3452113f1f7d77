from __future__ import annotations

import copy
import pickle
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmw.contract import OWN, PAGE, STATUS, ErrorBody, for_status
from flexmw.contract.bodies import PartialError, complete
from flexmw.contract.messages import PLACEHOLDERS, expected, reword
from flexmw.errors import (
    APIError,
    InsufficientCredit,
    InvalidRequest,
    JobNotFound,
    ModelNotFound,
    RateLimitExceeded,
    SubsystemOffline,
)

ROWS = (*PAGE.values(), *STATUS.values(), *OWN.values())


def test_the_default_message_of_every_code_is_a_message_that_it_can_have() -> None:
    assert {row.code: fault for row in ROWS if (fault := expected(row.code, row.message))} == {}


@pytest.mark.parametrize(
    ("error", "message", "text"),
    [
        (InsufficientCredit(), "Pay at https://shop.example.", "Pay at https://shop.example."),
        (JobNotFound(), "No such video.", "No such video."),
        (ModelNotFound("a{b}"), "'{model}'? {{No}}.", "'a{b}'? {No}."),
        (RateLimitExceeded(34), "Wait {seconds} second{s}.", "Wait 34 seconds."),
        (RateLimitExceeded(1), "Wait {seconds} second{s}.", "Wait 1 second."),
        (SubsystemOffline("Speech"), "{name}: see https://status.example.", "Speech: see https://status.example."),
        (InvalidRequest(), "Look again.", "Look again."),
        (APIError(status=418), "Short and stout.", "Short and stout."),
        (APIError(status=404), "Nothing here.", "Nothing here."),
    ],
    ids=lambda value: str(value).partition("?")[0] if isinstance(value, APIError) else "",
)
def test_a_default_message_gives_way_to_the_message_of_its_code(error: APIError, message: str, text: str) -> None:
    assert expected(error.code, message) is None
    for each in (error, copy.copy(error), pickle.loads(pickle.dumps(error))):
        body = reword(each.body, {str(error.code): message})
        assert (body.message, body.type, body.code, body.param) == (text, error.type, error.code, error.param)
        assert reword(body, {str(error.code): "Again."}) == body


@pytest.mark.parametrize(
    "error",
    [
        InsufficientCredit(message="Insufficient credit. Add funds to continue."),
        ModelNotFound("foo", message="No foo."),
        RateLimitExceeded(34, message="Slow."),
        InvalidRequest("Bad field."),
        APIError("Gone fishing.", status=404),
        APIError("The shop is temporarily offline.", status=503),
        APIError(status=404, code="acme_code"),
    ],
    ids=str,
)
def test_a_message_of_the_app_stays(error: APIError) -> None:
    messages = dict.fromkeys(PLACEHOLDERS, "Other words.")
    assert reword(error.body, messages) == error.body


def test_a_message_whose_placeholder_has_no_value_is_not_used() -> None:
    messages = {"rate_limit_exceeded": "Wait {seconds} s.", "service_unavailable": "{name} is away."}
    assert reword(APIError(status=429).body, messages).message == "Rate limit exceeded."
    assert reword(APIError(status=503).body, messages).message == "Service unavailable."


def test_a_body_without_words_gets_them_and_one_with_words_keeps_its_own() -> None:
    messages = {"not_found": "Lost.", "unknown_url": "No such route.", "invalid_json": "Not JSON."}
    assert reword(complete(None, 404), messages).message == "Lost."
    assert reword(complete(PartialError("No such cat."), 404), messages).message == "No such cat."
    for row in OWN.values():
        found = PartialError(row.message, code=row.code)
        assert reword(complete(found, row.status), messages).message == messages[row.code]
    assert reword(complete(PartialError("Mine.", code="unknown_url"), 404), messages).message == "Mine."


def test_an_error_that_was_read_from_a_response_keeps_its_message() -> None:
    body = ErrorBody.decode(RateLimitExceeded(34).body.encode())
    assert body is not None
    assert reword(body, {"rate_limit_exceeded": "Other words."}) == body


@pytest.mark.parametrize(
    ("code", "message", "fault"),
    [
        ("job_not_fund", "No.", "did you mean 'job_not_found'?"),
        ("no_credit", "No.", "the code 'no_credit' to be one of 402, "),
        (402, "No.", "the code 402 to be one of "),
        ("http_404", "No.", "one of "),
        ("idempotency_unknown", "No.", "one of "),
        ("402", "", "a text that is not empty"),
        ("402", " ", "a text that is not empty"),
        ("402", None, "a text that is not empty"),
        ("402", "Pay {amount}.", "no placeholder {amount}; the placeholders of '402' are: none"),
        (
            "model_not_found",
            "No {modle}.",
            "no placeholder {modle}; the placeholders of 'model_not_found' are: {model}",
        ),
        ("model_not_found", "No {model.__class__}.", "no placeholder {model.__class__};"),
        ("model_not_found", "No {model!r}.", "no placeholder {model!r};"),
        ("model_not_found", "No {model:>9999999}.", "no placeholder {model:>9999999};"),
        ("model_not_found", "No {}.", "no placeholder {};"),
        ("model_not_found", "No {0}.", "no placeholder {0};"),
        ("rate_limit_exceeded", "Wait {second}.", "are: {s}, {seconds}"),
        ("402", "Pay {", "a text with placeholders in braces"),
    ],
)
def test_what_cannot_be_a_message_is_named(code: object, message: object, fault: str) -> None:
    assert fault in (expected(code, message) or "")


@given(st.sampled_from(sorted(PLACEHOLDERS)), st.text(st.sampled_from("{}!:.[]ax " + string.ascii_letters)))
def test_every_message_that_is_accepted_can_be_written(code: str, message: str) -> None:
    if expected(code, message) is None:
        values = dict.fromkeys(PLACEHOLDERS[code], "value")
        error = ErrorBody(message="m", type="t", code=code, placeholders=values)
        assert reword(error, {code: message}).message == message.format(**values)


def test_every_status_has_a_code_whose_message_can_be_replaced() -> None:
    assert {for_status(status).code for status in range(400, 600) if status != 499} <= set(PLACEHOLDERS)
