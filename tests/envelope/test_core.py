"""The decision about a whole error response."""

from __future__ import annotations

import gzip

import pytest

import flexmw
from flexmw.contract import PAGE, ErrorBody
from flexmw.contract.error_headers import should_retry
from flexmw.contract.exceptions import map_exception
from flexmw.envelope.core import (
    AppResponse,
    ErrorResponse,
    Rules,
    decide,
    error_status,
    fresh_headers,
    response_to,
)

JSON = ((b"Content-Type", b"application/json"),)
VALIDATION = b'{"detail":[{"loc":["query","n"],"msg":"bad","type":"x"}]}'


def test_a_422_validation_can_be_moved_to_400() -> None:
    assert decide(AppResponse(422, JSON, VALIDATION), Rules()).status == 422
    moved = decide(AppResponse(422, JSON, VALIDATION), Rules(validation_status=400))
    assert (moved.status, moved.error.code, moved.source) == (400, "validation_error", "validation")


@pytest.mark.parametrize(("status", "code"), [(400, "validation_error"), (409, "conflict")])
def test_validation_of_another_status_keeps_it_and_says_so_only_where_it_fits(status: int, code: str) -> None:
    reply = decide(AppResponse(status, JSON, VALIDATION), Rules(validation_status=422))
    assert (reply.status, reply.error.code, reply.error.param) == (status, code, "n")


def test_a_body_that_is_too_large_says_nothing() -> None:
    reply = decide(AppResponse(400, JSON, None), Rules())
    assert (reply.error.message, reply.generic) == ("Bad request.", True)


@pytest.mark.parametrize("kind", [b"application/grpc+proto", b"application/vnd.api+json", b"application/soap+xml"])
def test_other_protocols_pass_by_their_type(kind: bytes) -> None:
    assert decide(AppResponse(400, ((b"content-type", kind),), b"\x00"), Rules()).kept


def test_a_page_with_a_traceback_passes_only_in_debug() -> None:
    seen = AppResponse(500, ((b"content-type", b"text/plain"),), b"Traceback (most recent call last): secret")
    assert decide(seen, Rules(debug=True)).kept
    assert not decide(seen, Rules()).kept


def test_an_unrouted_404_says_that_the_url_is_unknown_unless_the_host_said_more() -> None:
    assert decide(AppResponse(404, JSON, b"", unrouted=True), Rules()).error.code == "unknown_url"
    assert decide(AppResponse(404, JSON, b'{"detail":"No cat."}', unrouted=True), Rules()).error.code == "not_found"
    assert decide(AppResponse(405, JSON, b"", unrouted=True), Rules()).error.code == "method_not_allowed"


def test_a_kind_stands_for_a_response_of_its_status_and_for_a_bare_500() -> None:
    kind = flexmw.ModelNotFound("foo")
    for seen in (AppResponse(400, JSON, b'{"detail":"x"}'), AppResponse(500, JSON, b"")):
        assert decide(seen, Rules(), remembered=kind).error.code == "model_not_found"
    assert decide(AppResponse(404, JSON, b""), Rules(), remembered=kind).error.code == "not_found"
    assert (
        decide(AppResponse(500, JSON, b'{"detail":"Own words."}'), Rules(), remembered=kind).error.message
        == "Own words."
    )


def test_a_handled_exception_is_no_fault_of_the_server() -> None:
    mapping = map_exception(KeyError("handled"))
    reply = decide(AppResponse(409, JSON, b'{"detail":"Handled."}'), Rules(), mapping=mapping)
    assert (reply.source, reply.exception) == ("foreign_body", None)
    reply = decide(AppResponse(503, JSON, b'{"detail":"Closed."}'), Rules(), mapping=mapping)
    assert (reply.source, reply.exception, reply.error.message) == ("unhandled_exception", mapping.exception, "Closed.")


def test_what_another_component_wrote_passes_even_where_it_looks_like_a_secret() -> None:
    body = ErrorBody(message="api_key: abcdef123", type="t", code="c").encode()
    assert decide(AppResponse(422, JSON, body, settled=True), Rules()).kept
    assert not decide(AppResponse(422, JSON, body), Rules()).kept


def test_an_exceptions_text_is_not_shown_whoever_wrote_it_into_the_body() -> None:
    mapping = map_exception(ValueError("row 7 of users"))
    told = AppResponse(500, JSON, b'{"detail":"failed: row 7 of users"}')
    assert decide(told, Rules(), mapping=mapping).error.message == "Internal server error."
    assert decide(told, Rules(), mapping=map_exception(ValueError("no"))).error.message == "failed: row 7 of users"


def test_an_exception_stands_for_a_500_that_says_nothing() -> None:
    reply = decide(AppResponse(500, JSON, b"Internal Server Error"), Rules(), mapping=map_exception(TimeoutError()))
    assert (reply.error.code, reply.source) == ("upstream_timeout", "unhandled_exception")


def test_a_json_rpc_error_is_kept_and_named_by_its_status() -> None:
    reply = decide(AppResponse(404, JSON, b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}'), Rules())
    assert (reply.kept, reply.source, reply.error.code) == (True, "passthrough", "not_found")


def test_a_conflict_is_worth_a_retry_only_where_it_names_a_time() -> None:
    error = ErrorBody(message="m", type="t", code="conflict")
    assert should_retry(error, 409, method="POST", keyed=True, waits=False) is False
    assert should_retry(error, 409, method="POST", keyed=True, waits=True) is None


def test_only_headers_of_the_body_are_dropped() -> None:
    before = [(b"ETag", b"1"), (b"Content-Range", b"bytes */9"), (b"Set-Cookie", b"a"), (b"Set-Cookie", b"b")]
    kept = fresh_headers(before, status=400, media_type="x/y", length=3)
    assert kept == [(b"content-type", b"x/y"), (b"content-length", b"3"), *before[2:]]
    assert before[1] in fresh_headers(before, status=416, media_type="x/y", length=3)


@pytest.mark.parametrize(
    ("status", "expected"), [(404, 404), (599, 599), (600, 500), (99, 500), (None, 500), (True, 500), ("404", 500)]
)
def test_a_status_that_no_server_can_send_is_500(status: object, expected: int) -> None:
    assert error_status(status) == expected


def test_credit_that_is_gone_is_never_worth_a_retry_whatever_its_status() -> None:
    error = ErrorBody(message="m", type="insufficient_quota", code="x")
    assert should_retry(error, 429, method="GET", keyed=True, waits=True) is False


def test_an_error_without_a_row_of_its_own_goes_by_its_status() -> None:
    error = ErrorBody(message="m", type="t", code="mine")
    assert should_retry(error, 500, method="POST", keyed=False, waits=False) is False
    assert should_retry(error, 500, method="POST", keyed=True, waits=False) is None
    assert should_retry(error, 404, method="POST", keyed=False, waits=False) is None


def test_a_response_says_nothing_about_headers_it_does_not_have() -> None:
    row = PAGE["job_not_found"]
    error = ErrorBody(message=row.message, type=row.type, code=row.code)
    assert ErrorResponse(404, error, "http_exception").headers == ()


@pytest.mark.parametrize("validation", [None, 400, 422])
def test_malformed_json_is_no_failed_validation_and_always_400(validation: int | None) -> None:
    body = b'{"detail":[{"type":"json_invalid","loc":["body",3],"msg":"JSON decode error","input":{}}]}'
    reply = decide(AppResponse(422, JSON, body), Rules(validation_status=validation))
    assert (reply.status, reply.error.code, reply.source) == (400, "invalid_json", "validation")


def test_an_unknown_url_is_a_sentence() -> None:
    reply = decide(AppResponse(404, JSON, b"", unrouted=True), Rules())
    assert reply.error.message == "Unknown URL: no route has this path."


def test_a_kept_body_is_reported_by_its_own_words_and_status() -> None:
    body = ErrorBody(message="Mine.", type="invalid_request_error", code="mine").encode()
    reply = decide(AppResponse(418, JSON, body), Rules())
    assert (reply.status, reply.kept, reply.error.message, reply.error.code) == (418, True, "Mine.", "mine")


def test_the_dialects_are_asked_about_the_value_itself() -> None:
    asked: list[object] = []
    decide(AppResponse(400, JSON, b'{"a":1}'), Rules(keeps=lambda value: bool(asked.append(value))))
    assert asked == [{"a": 1}]


@pytest.mark.parametrize("encoding", [b"gzip", b" GZip "])
def test_a_compressed_body_is_read_no_further_than_allowed(encoding: bytes) -> None:
    headers = (*JSON, (b"Content-Encoding", encoding))
    body = gzip.compress(b'{"detail":"No cat."}' + b" " * 80)
    assert decide(AppResponse(404, headers, body), Rules()).error.message == "No cat."
    assert decide(AppResponse(404, headers, body), Rules(max_body=50)).generic


def test_an_encoding_that_is_no_text_is_no_error() -> None:
    assert decide(AppResponse(404, (*JSON, (b"content-encoding", b"\xff")), b"{}"), Rules()).error.code == "not_found"


def test_text_is_read_by_its_status() -> None:
    text = ((b"content-type", b"text/plain"),)
    assert decide(AppResponse(404, text, b"No cat."), Rules()).error.message == "No cat."
    assert decide(AppResponse(404, text, b"Not Found"), Rules()).generic
    assert decide(AppResponse(409, text, b"Conflict"), Rules()).generic


@pytest.mark.parametrize("status", [500, 503])
def test_an_exception_behind_a_response_of_a_server_error_is_named(status: int) -> None:
    mapping = map_exception(KeyError("handled"))
    reply = decide(AppResponse(status, JSON, b'{"detail":"Own words."}'), Rules(), mapping=mapping)
    assert (reply.status, reply.source, reply.exception) == (status, "unhandled_exception", mapping.exception)


@pytest.mark.parametrize(("text", "shown"), [("row", True), ("rows", False)])
def test_an_exceptions_text_of_three_characters_may_be_chance(text: str, shown: bool) -> None:
    told = AppResponse(500, JSON, b'{"detail":"No rows of it."}')
    reply = decide(told, Rules(), mapping=map_exception(ValueError(text)))
    assert (reply.error.message == "No rows of it.") is shown


def test_the_beginning_of_a_long_exception_is_enough_to_know_it_by() -> None:
    told = AppResponse(500, JSON, b'{"detail":"failed: ' + b"x" * 200 + b'"}')
    assert decide(told, Rules(), mapping=map_exception(ValueError("x" * 300))).error.message == "Internal server error."


def test_a_raised_error_brings_its_status_and_headers_and_a_crash_itself() -> None:
    reply = response_to(map_exception(flexmw.RateLimitExceeded(retry_after=7)))
    assert (reply.status, reply.exception) == (429, None)
    assert ("retry-after", "7") in [(name.lower(), value) for name, value in reply.headers]
    crash = ValueError("hidden")
    reply = response_to(map_exception(crash))
    assert (reply.status, reply.exception, reply.headers) == (500, crash, ())


def test_the_lowest_status_of_http_is_one() -> None:
    assert error_status(100) == 100


def test_a_number_as_code_that_repeats_the_status_is_no_code() -> None:
    body = b'{"error":{"message":"No cat.","type":"x","code":404}}'
    assert decide(AppResponse(404, JSON, body), Rules()).error.code == "not_found"


def test_a_compressed_body_that_is_too_large_says_nothing() -> None:
    assert decide(AppResponse(400, (*JSON, (b"content-encoding", b"gzip")), None), Rules()).generic
