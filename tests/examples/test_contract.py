"""Every row of the contract's page, as the real openai SDK sees it from a gateway over a socket, in both colours."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx2
import openai
import pytest

from examples.gateway.serve import Backend, Running, gateway
from tests.examples.conftest import Caller
from tests.waiting import LONGEST_WAIT

CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": "alice-3gram", "messages": [{"role": "user", "content": "Who stole the tarts?"}]}


def ask(**change: Any) -> Callable[[Any], Any]:
    return lambda sdk: sdk.chat.completions.create(**{**ASK, **change})


class Row(NamedTuple):
    """What the SDK raises, and what it says."""

    raised: type[openai.APIStatusError]
    status: int
    type: str
    code: str
    message: str


MODEL_NOT_FOUND = Row(
    openai.BadRequestError,
    400,
    "invalid_request_error",
    "model_not_found",
    "Invalid 'model'. The model 'foo' does not exist or you do not have access.",
)
INVALID_KEY = Row(
    openai.AuthenticationError, 401, "authentication_error", "invalid_api_key", "Invalid API key provided."
)
NO_CREDIT = Row(
    openai.APIStatusError,
    402,
    "insufficient_quota",
    "402",
    "Insufficient credit. Add funds at https://tokens.flex.ai/dashboard/billing to continue.",
)
JOB_NOT_FOUND = Row(openai.NotFoundError, 404, "invalid_request_error", "job_not_found", "Video job not found.")
RATE_LIMITED = Row(
    openai.RateLimitError,
    429,
    "rate_limit_error",
    "rate_limit_exceeded",
    r"Rate limit exceeded\. Retry after (\d+) seconds?\.",
)
TIMED_OUT = Row(openai.InternalServerError, 500, "server_error", "upstream_timeout", "Upstream model timed out.")
OFFLINE = Row(
    openai.InternalServerError,
    503,
    "server_error",
    "service_unavailable",
    "The model 'alice-2gram' is temporarily offline.",
)


def check(error: openai.APIStatusError, row: Row, *, param: str | None = None) -> None:
    assert type(error) is row.raised
    assert (error.status_code, error.type, error.code, error.param) == (row.status, row.type, row.code, param)
    assert isinstance(error.body, dict)
    message = error.body["message"]
    assert message == row.message or re.fullmatch(row.message, message)
    assert str(error) == f"Error code: {row.status} - {message}"
    assert error.request_id
    assert set(error.body) <= {"message", "type", "code", "param", "doc_url"}


def test_400_an_unknown_model(caller: Caller) -> None:
    check(caller.error(ask(model="foo")), MODEL_NOT_FOUND, param="model")


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"n": 2}, "n", "invalid_request"),
        ({"messages": []}, "messages", "invalid_request"),
        ({"model": None}, "model", "invalid_request"),
        ({"model": "alice-embed"}, "model", "invalid_request"),
        ({"max_tokens": -1}, "max_tokens", "invalid_request"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "include_usage", "invalid_request"),
        ({"temperature": 9}, "temperature", "invalid_request"),  # the backend's word, passed on
        ({"messages": [{"role": "user", "content": "tart " * 8_200}]}, "messages", "context_length_exceeded"),
    ],
)
def test_400_names_the_field(caller: Caller, work: Backend, change: dict[str, Any], param: str, code: str) -> None:
    error = caller.error(ask(**change))
    assert type(error) is openai.BadRequestError
    assert (error.type, error.param, error.code) == ("invalid_request_error", param, code)
    assert error.request_id
    assert work.work() == {}


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff", b'{"n": NaN}', b'{"n": 1e999}', b'{"model": "\\ud800"}'])
def test_400_for_a_body_that_is_no_json_object(
    running: Running, account: tuple[str, str], body: bytes, http: httpx2.Client
) -> None:
    answer = http.post(running.url + CHAT, content=body, headers={"authorization": f"Bearer {account[0]}"})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (400, "invalid_request_error", "invalid_request")


@pytest.mark.parametrize("key", ["sk-never-made", "revoked", ""])
def test_401_a_key_that_opens_nothing(colour: str, running: Running, key: str) -> None:
    if key == "revoked":
        key, account = running.admin.create_key()
        running.admin.revoke(account)
    headers = {} if key else {"Authorization": openai.Omit()}
    error = Caller(colour, running.url, key or "omitted").error(ask(extra_headers=headers))
    check(error, INVALID_KEY)
    assert error.body["doc_url"].startswith("https://")  # type: ignore[index]
    assert error.response.headers["www-authenticate"] == "Bearer"


def test_402_until_the_key_is_topped_up(colour: str, running: Running, work: Backend) -> None:
    key, account = running.admin.create_key(credit=0)
    caller = Caller(colour, running.url, key)
    check(caller.error(ask()), NO_CREDIT)
    assert work.work() == {}
    running.admin.top_up(account, 1_000)
    assert caller(ask()).choices[0].message.content


def test_404_an_unknown_video_job(caller: Caller) -> None:
    check(caller.error(lambda sdk: sdk.get("/videos/generations/video-none", cast_to=object)), JOB_NOT_FOUND)


def test_404_a_stale_model_id(caller: Caller) -> None:
    error = caller.error(lambda sdk: sdk.models.retrieve("foo"))
    assert type(error) is openai.NotFoundError
    assert (error.code, error.param) == ("model_not_found", "model")


def test_404_and_405_of_the_router_are_enveloped_too(caller: Caller) -> None:
    assert caller.error(lambda sdk: sdk.get("/nowhere", cast_to=object)).code == "unknown_url"
    error = caller.error(lambda sdk: sdk.delete("/models", cast_to=object))
    assert (error.status_code, error.code) == (405, "method_not_allowed")
    assert "GET" in error.response.headers["allow"]


def test_413_a_body_above_the_cap_is_enveloped_too(
    running: Running, account: tuple[str, str], http: httpx2.Client
) -> None:
    headers = {"authorization": f"Bearer {account[0]}"}
    answer = http.post(running.url + CHAT, content=b" " * 8_000_001, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize(("tier", "limit"), [("free", 10), ("paid", 100)])
def test_429_at_the_ceiling_of_the_tier(colour: str, running: Running, work: Backend, tier: str, limit: int) -> None:
    key, _ = running.admin.create_key(tier=tier)
    headers = {"authorization": f"Bearer {key}"}
    with httpx2.Client(base_url=running.url, headers=headers, timeout=LONGEST_WAIT) as client:
        left = [client.get("/v1/models").headers["x-ratelimit-remaining-requests"] for _ in range(limit)]
    assert left == [str(number) for number in reversed(range(limit))]
    error = Caller(colour, running.url, key).error(ask())
    check(error, RATE_LIMITED)
    said = error.response.headers
    assert said["x-ratelimit-limit-requests"] == str(limit)
    assert said["x-ratelimit-remaining-requests"] == "0"
    assert 0 < int(said["retry-after"]) <= 60
    assert int(said["x-ratelimit-reset-requests"]) > 1_700_000_000
    assert f"Retry after {said['retry-after']} second" in str(error)
    assert work.work() == {}


def test_500_a_silent_backend(colour: str, work: Backend) -> None:
    with gateway(work.url, timeout=0.5) as running:
        key, account = running.admin.create_key()
        error = Caller(colour, running.url, key).error(ask(extra_headers={"x-backend-fault": "timeout"}))
        check(error, TIMED_OUT)
        assert error.response.headers["x-should-retry"] == "false"
        assert running.admin.account(account)["spent"] == 0
    assert work.work() == {CHAT: 1}


@pytest.mark.parametrize("fault", ["500", "lost", "reset"])
def test_500_a_broken_backend_is_asked_once(caller: Caller, work: Backend, fault: str) -> None:
    error = caller.error(ask(extra_headers={"x-backend-fault": fault}), max_retries=2)
    assert type(error) is openai.InternalServerError
    assert (error.status_code, error.type, error.code) == (500, "server_error", "internal_error")
    assert "may have done the work" in str(error)
    assert work.work().get(CHAT, 0) == (0 if fault == "reset" else 1)


def test_503_a_model_that_is_offline(caller: Caller, running: Running, work: Backend) -> None:
    with running.admin.offline("alice-2gram"):
        error = caller.error(ask(model="alice-2gram"))
        check(error, OFFLINE)
        assert error.response.headers["retry-after"] == "60"
        assert caller(ask()).choices
    assert caller(ask(model="alice-2gram")).choices
    assert work.work() == {CHAT: 2}


def test_503_the_playground(running: Running, http: httpx2.Client) -> None:
    assert "<h1>Playground</h1>" in http.get(f"{running.url}/playground").text
    with running.admin.offline("playground"):
        answer = http.get(f"{running.url}/playground")
    assert answer.status_code == 503
    assert answer.json()["error"]["message"] == "The playground is temporarily offline."


def test_a_backend_that_refuses_for_a_moment_is_asked_again(
    running: Running, account: tuple[str, str], work: Backend
) -> None:
    once = ask(extra_headers={"x-backend-fault": f"503; once={account[1]}"})
    began = time.monotonic()
    assert Caller("sync", running.url, account[0])(once).choices
    assert time.monotonic() - began >= 1.0  # the second that the backend asked for was waited for by the gateway
    assert work.work() == {CHAT: 1}
