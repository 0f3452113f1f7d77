"""The members of an error body that the contract has no field for: they stay, without secrets and stack traces."""

# ruff: noqa: E501
from __future__ import annotations

import json
import time
from typing import Any

import pytest

from flexmw.contract import ErrorBody
from flexmw.contract.bodies import PartialError, complete, read_response
from flexmw.contract.members import TRACE, other_members

SECRET = "sk-canary-0123456789abcdef"


def rewritten(value: Any, status: int = 400) -> dict[str, Any]:
    """The error that a body becomes."""
    found = read_response([], json.dumps(value).encode(), status).found
    assert found is None or isinstance(found, PartialError)
    result: dict[str, Any] = json.loads(complete(found, status).encode())
    return result


EXTRAS: dict[str, Any] = {
    "llama.cpp": {"error": {"code": 400, "message": "m", "type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 4}},
    "Azure": {"error": {"message": "m", "type": None, "param": "prompt", "code": "content_filter", "status": 400, "innererror": {"code": "X", "content_filter_result": {"hate": {"filtered": True}}}}},
    "Azure without a type": {"error": {"code": "429", "message": "m", "innererror": {"retry": 3}}},
    "OpenRouter": {"error": {"code": 402, "message": "m", "metadata": {"provider_name": "p", "raw": "out of credit"}}, "user_id": "u"},
    "LiteLLM": {"error": {"message": "m", "type": None, "param": None, "code": "400", "provider_specific_fields": {"innererror": {"code": "X"}}}},
    "Anthropic": {"type": "error", "error": {"type": "not_found_error", "message": "m"}, "request_id": "req_1"},
    "Google": {"error": {"code": 404, "message": "m", "status": "NOT_FOUND", "details": [{"@type": "t", "reason": "R"}]}},
    "Elasticsearch": {"error": {"type": "index_not_found_exception", "reason": "no such index", "index": "cats"}, "status": 404},
    "an error without a text": {"error": {"existing_id": 42}},
}  # fmt: skip


@pytest.mark.parametrize("value", EXTRAS.values(), ids=EXTRAS)
def test_a_rebuilt_error_keeps_its_other_members(value: Any) -> None:
    written = rewritten(value)
    for name, member in value["error"].items():
        if name not in ("message", "type", "code", "param"):
            assert written["error"][name] == member
    assert {name: member for name, member in written.items() if name != "error"} == {
        name: member for name, member in value.items() if name != "error"
    }
    assert ErrorBody.from_json(written) is not None


@pytest.mark.parametrize(
    ("value", "status", "expected"),
    [
        ({"detail": {"message": "Already there", "code": "DUP", "existing_id": 42, "links": ["/orders/42"]}}, 409,
         {"message": "Already there", "code": "DUP", "existing_id": 42, "links": ["/orders/42"]}),
        ({"detail": {"reason": "duplicate", "existing_id": 42}}, 409, {"message": "duplicate", "existing_id": 42}),
        ({"detail": {"existing_id": 42}}, 409, {"code": "conflict", "existing_id": 42}),
        ({"detail": "No seats left.", "waiting_list": True}, 409, {"message": "No seats left.", "waiting_list": True}),
        ({"type": "https://x/y", "title": "Out of credit", "status": 403, "detail": "30 needed", "instance": "/a/1",
          "balance": 3}, 403, {"message": "30 needed", "instance": "/a/1", "balance": 3, "type": "permission_error"}),
        ({"message": "m", "timestamp": "2026-01-01T00:00:00Z", "path": "/x"}, 404, {"path": "/x", "message": "m"}),
        ({"error": "no_credit", "balance": 3}, 402, {"code": "no_credit", "balance": 3}),
        ({"error": "Too many.", "limit": 5}, 429, {"message": "Too many.", "limit": 5}),
        ({"errors": [{"field": "n", "message": "Bad n."}]}, 400,
         {"message": "Bad n.", "errors": [{"field": "n", "message": "Bad n."}]}),
        ({"errors": [{"status": "404", "code": "no_cat", "detail": "No such cat."}]}, 404, {"message": "No such cat.", "code": "no_cat"}),
        ({"status": "fail", "data": {"title": "A title is required"}}, 400,
         {"code": "invalid_request", "data": {"title": "A title is required"}}),
        ({"status_code": 400, "detail": "Broken", "extra": {"a": 1}}, 400, {"message": "Broken", "extra": {"a": 1}}),
    ],
)  # fmt: skip
def test_the_members_of_a_flat_body_move_into_the_error(value: Any, status: int, expected: dict[str, Any]) -> None:
    error = rewritten(value, status)["error"]
    assert {name: error.get(name) for name in expected} == expected
    assert "status_code" not in error


def test_a_server_error_keeps_members_only_where_its_body_is_an_error_object() -> None:
    assert rewritten({"error": {"message": "m", "code": 500, "retry_in": 3}}, 500)["error"]["retry_in"] == 3
    assert "extra" not in rewritten({"detail": "m", "extra": {"query": "SELECT"}}, 500)["error"]
    assert "rows" not in rewritten({"rows": 3}, 500)["error"]


def test_secrets_and_stack_traces_do_not_stay() -> None:
    trace = 'Traceback (most recent call last):\n  File "x.py", line 1'
    members = other_members(
        {
            "hint": f"use {SECRET}",
            "api_key": SECRET,
            "trace": "at x",
            "why": trace,
            "deep": [{"stack": "s", "n": [trace, 1]}],
        }
    )
    assert members == {"hint": "use sk-***", "api_key": "***", "deep": [{"n": [1]}]}


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        *((name, True) for name in ("password", "apiKey", "x-api-key", "clientSecret", "access_token", "db_passwd")),
        *((name, True) for name in ("private_key", "passphrase", "csrf_token", "bot-token", "subscriptionKey")),
        *((name, False) for name in ("code", "key", "hash", "pin", "next_token", "page_token", "primaryKey", "monkey")),
    ],
)
def test_a_member_with_the_name_of_a_secret_is_masked(name: str, is_secret: bool) -> None:
    assert other_members({name: "value"}) == {name: "***" if is_secret else "value"}


def test_the_input_of_a_failed_validation_does_not_stay() -> None:
    error = {"loc": ["body", "n"], "msg": "Bad", "input": "SECRET", "ctx": {"tag": "SECRET"}}
    assert "SECRET" not in json.dumps(rewritten({"errors": [error]}))
    assert "SECRET" not in json.dumps(rewritten({"error": {"message": "m", "code": 1, "problems": [error]}}))


def test_members_are_always_json_that_every_parser_reads() -> None:
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    body = b'{"error": {"message": "m", "code": 1, "x": NaN, "y": -Infinity, "s": "\\ud800", "deep": %s}}' % (
        json.dumps(deep).encode()
    )
    found = read_response([], body, 400).found
    assert isinstance(found, PartialError)

    def refuse(constant: str) -> Any:
        raise AssertionError(constant)

    error = json.loads(complete(found, 400).encode(), parse_constant=refuse)["error"]
    assert (error["x"], error["y"], error["s"]) == (None, None, "?")


def test_a_text_of_many_line_breaks_is_searched_for_a_traceback_once() -> None:
    began = time.process_time()
    assert TRACE.search("x" + "\n" * 60_000) is None
    assert time.process_time() - began < 2  # it took 36 seconds when the blanks had no bound
    assert TRACE.search('x\n  File "a.py", line 3')


def test_an_error_that_is_decoded_has_no_other_members() -> None:
    error = ErrorBody(
        message="m", type="t", code="c", members={"n": 1, "message": "other"}, siblings={"id": 2, "error": 3}
    )
    assert error.as_dict() == {"error": {"message": "m", "type": "t", "code": "c", "n": 1}, "id": 2}
    decoded = ErrorBody.decode(error.encode())
    assert decoded == error
    assert (decoded.members, decoded.siblings) == ({}, {})


def test_empty_members_stay_empty() -> None:
    assert other_members({"innererror": {}, "details": []}) == {"innererror": {}, "details": []}
