"""The judges of single responses: which values pass, and that none of them can be made to raise."""

from __future__ import annotations

import json
from math import ceil, floor

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flexmw.conformance.judges import (
    envelope_faults,
    excerpt,
    limit_faults,
    refusal_faults,
    stream_faults,
)
from flexmw.conformance.values import Response
from flexmw.contract.dates import http_date
from tests.conformance.played_probes import error

JSON = {"content-type": "application/json"}
BODY = b'{"error":{"message":"No.","type":"rate_limit_error","code":"rate_limit_exceeded"}}'
NOW = 1_800_000_000.0
LIMITED = {
    "retry-after": "3",
    "x-ratelimit-limit-requests": "10",
    "x-ratelimit-remaining-requests": "0",
    "x-ratelimit-reset-requests": "1800000003",
}
NAMES = ("retry-after", "retry-after-ms", "date", "ratelimit", "ratelimit-policy", *LIMITED, "content-type", "vary")
HEADERS = st.dictionaries(st.sampled_from(NAMES), st.text(max_size=40) | st.integers().map(str), max_size=8)


def date_of(seconds: float) -> str:
    from email.utils import formatdate

    return formatdate(seconds, usegmt=True)


@given(
    now=st.floats(1_700_000_000, 1_900_000_000),
    wait=st.floats(0.001, 86_400),
    age=st.floats(0, 1.0),
    exact=st.booleans(),
)
@example(now=1_795_923_860.999, wait=18.876, age=1.0, exact=True)  # two seconds of tolerance called it broken
def test_a_server_that_rounds_up_and_caches_its_date_is_never_called_broken(
    now: float, wait: float, age: float, exact: bool
) -> None:
    headers = {
        "date": date_of(floor(now - age)),
        "retry-after": str(max(1, ceil(wait))),
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": str(ceil(now + wait)),
    }
    assert http_date(headers["date"]) == floor(now - age)
    if exact:
        headers["retry-after-ms"] = str(ceil(wait * 1000))
    assert refusal_faults(headers, now=now) == []


@given(wait=st.integers(10, 86_400), early=st.integers(3, 9))
def test_a_reset_that_sends_its_reader_back_too_early_is_called_broken(wait: int, early: int) -> None:
    headers = {
        **LIMITED,
        "date": date_of(NOW),
        "retry-after": str(wait),
        "x-ratelimit-reset-requests": str(int(NOW) + wait - early),
    }
    (fault,) = refusal_faults(headers, now=NOW)
    assert fault.endswith("whoever obeys the reset comes too early")


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"retry-after": None}, "a 429 without retry-after"),
        ({"x-ratelimit-limit-requests": None}, "without x-ratelimit-limit-requests"),
        ({"retry-after": "soon"}, "Retry-After is 'soon'"),
        ({"x-ratelimit-reset-requests": "soon"}, "the reset header is 'soon'"),
        ({"retry-after": "30"}, "Retry-After asks for 30 s, the reset header for 3 s"),
    ],
)
def test_the_headers_of_a_429_must_be_there_and_agree(headers: dict[str, str | None], words: str) -> None:
    merged = {name: value for name, value in {**LIMITED, **headers}.items() if value is not None}
    assert words in refusal_faults(merged, now=NOW)[0]


def test_limits_in_the_form_of_the_ietf_draft_are_as_good_as_the_four_headers() -> None:
    headers = {"retry-after": "30", "ratelimit": '"default";r=0;t=30', "ratelimit-policy": '"default";q=100;w=60'}
    assert refusal_faults(headers, now=NOW) == []
    assert limit_faults(headers, now=NOW) == []


@pytest.mark.parametrize(
    ("status", "headers", "body", "words"),
    [
        (200, JSON, BODY, "status is 200, not 404"),
        (404, {"content-type": "text/html; charset=utf-8"}, BODY, "content-type is 'text/html'"),
        (404, {}, BODY, "content-type is 'missing'"),
        (404, JSON, b"[]", 'the body is not the error object of the contract: "[]"'),
        (404, JSON, b"", "the body is not the error object of the contract: empty"),
        (404, JSON, b'{"error":{"message":" ","type":"t","code":null}}', "error.message is empty"),
        (404, JSON, BODY, "error.type is 'rate_limit_error', not 'invalid_request_error'"),
    ],
)
def test_a_wrong_error_is_named(status: int, headers: dict[str, str], body: bytes, words: str) -> None:
    response = Response(status=status, headers=headers, body=body)
    assert words in "; ".join(envelope_faults(response, (404,), "invalid_request_error"))


def test_a_status_outside_of_the_list_is_named_with_the_list() -> None:
    assert envelope_faults(error(500), (400, 413, 422))[0] == "status is 500, not 400, 413 or 422"


@given(st.binary(max_size=2000) | st.text(max_size=500).map(str.encode))
def test_an_excerpt_is_one_short_line_of_ascii(body: bytes) -> None:
    text = excerpt(body)
    assert text.isascii()
    assert text.isprintable()
    assert len(text) <= 62


def test_an_excerpt_shows_no_credential() -> None:
    assert "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789" not in excerpt(
        b"Incorrect API key provided: sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"
    )


@given(st.integers(0, 999), HEADERS, st.binary(max_size=300))
def test_no_response_makes_a_judge_raise(status: int, headers: dict[str, str], body: bytes) -> None:
    response = Response(status=status, headers=headers, body=body)
    for faults in (
        envelope_faults(response, (404,), "t", "c"),
        refusal_faults(headers, now=NOW),
        limit_faults(headers, now=NOW) or [],
        stream_faults(body),
    ):
        assert all(fault.isprintable() and len(fault) < 300 for fault in faults)


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({**LIMITED, "x-ratelimit-remaining-requests": "11"}, "of 10 requests, 11 are said to remain"),
        ({"x-ratelimit-limit-requests": "10"}, "no limit (requests) has a readable limit, remaining, reset"),
        ({**LIMITED, "x-ratelimit-reset-requests": "1900000000"}, "resets in 1157 days"),
        ({"ratelimit-limit": "5", "ratelimit-remaining": "6"}, "no limit (requests) has a readable"),
        ({"ratelimit-limit": "5", "ratelimit-remaining": "6"}, "of 5 requests, 6 are said to remain"),
    ],
)
def test_the_limits_of_an_admitted_request_must_make_sense(headers: dict[str, str], words: str) -> None:
    assert words in "; ".join(limit_faults(headers, now=NOW) or [])


def test_a_credit_beside_the_limits_needs_no_reset() -> None:
    credit = {"x-ratelimit-limit-usd": "5", "x-ratelimit-remaining-usd": "4.99"}
    assert limit_faults({**LIMITED, **credit}, now=NOW) == []
    assert limit_faults({}, now=NOW) is None


def event(**fields: object) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


CHUNK = event(choices=[{"delta": {"content": "a"}}])
USAGE = event(choices=[], usage={"total_tokens": 2})
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (CHUNK + USAGE, "the last event is not [DONE]"),
        (CHUNK + USAGE + b"data: [DONE]\n", "the stream does not end in a blank line"),
        (CHUNK + DONE, "no event has usage"),
        (USAGE + DONE, "no event has choices"),
        (CHUNK + b"data: {\n\n" + DONE, "an event is not a JSON object"),
        (CHUNK + event(error={"message": "No."}) + DONE, "the stream holds an error"),
        (b"", "the stream has no event with data"),
    ],
)
def test_a_wrong_stream_is_named(body: bytes, words: str) -> None:
    assert words in "; ".join(stream_faults(body, with_usage=True))


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_a_whole_stream_passes_with_each_line_end(line_end: bytes) -> None:
    stream = (b": hello\n\n" + CHUNK + USAGE + DONE).replace(b"\n", line_end)
    assert stream_faults(stream, with_usage=True) == []
