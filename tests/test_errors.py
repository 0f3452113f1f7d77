from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from flexmw.contract import Row
from flexmw.errors import (
    APIError,
    ConfigError,
    FlexmwError,
    InsufficientCredit,
    InvalidAPIKey,
    InvalidRequest,
    JobNotFound,
    ModelNotFound,
    PluginError,
    RateLimitExceeded,
    SubsystemOffline,
    UnknownComponent,
    UpstreamTimeout,
    raised,
)

Make = Callable[..., APIError]

KINDS: dict[str, tuple[Make, int, str, str]] = {
    "InvalidRequest": (lambda **f: InvalidRequest("Bad.", **f), 400, "invalid_request_error", "invalid_request"),
    "ModelNotFound": (lambda **f: ModelNotFound("foo", **f), 400, "invalid_request_error", "model_not_found"),
    "InvalidAPIKey": (InvalidAPIKey, 401, "authentication_error", "invalid_api_key"),
    "InsufficientCredit": (InsufficientCredit, 402, "insufficient_quota", "402"),
    "JobNotFound": (JobNotFound, 404, "invalid_request_error", "job_not_found"),
    "RateLimitExceeded": (lambda **f: RateLimitExceeded(34, **f), 429, "rate_limit_error", "rate_limit_exceeded"),
    "UpstreamTimeout": (UpstreamTimeout, 500, "server_error", "upstream_timeout"),
    "SubsystemOffline": (lambda **f: SubsystemOffline("Speech", **f), 503, "server_error", "service_unavailable"),
    "APIError": (lambda **f: APIError(**{"status": 418, **f}), 418, "invalid_request_error", "http_418"),
}
every_kind = pytest.mark.parametrize(("make", "status", "type", "code"), KINDS.values(), ids=KINDS)


@every_kind
def test_a_kind_has_its_row_s_fields(make: Make, status: int, type: str, code: str) -> None:
    error = make()
    assert (error.status, error.type, error.code, error.doc_url) == (status, type, code, None)
    assert error.message
    assert "{" not in error.message
    assert str(error) == f"{status} {code}: {error.message}"


@every_kind
def test_every_field_of_a_kind_can_be_replaced(make: Make, status: int, type: str, code: str) -> None:
    given: dict[str, Any] = {
        "status": 409,
        "type": "odd_error",
        "code": "odd",
        "doc_url": "https://docs.example/odd",
        "headers": {"x-odd": "1"},
    }
    error = make(**given)
    assert (error.status, error.type, error.code, error.doc_url) == (
        409,
        "odd_error",
        "odd",
        "https://docs.example/odd",
    )
    assert error.headers is not None
    assert error.headers["x-odd"] == "1"
    assert error.body.as_dict()["error"]["doc_url"] == "https://docs.example/odd"


@pytest.mark.parametrize("name", [name for name in KINDS if name != "InvalidRequest"])
def test_message_and_param_can_be_replaced_too(name: str) -> None:
    error = KINDS[name][0](message="Other words.", param="n")
    assert (error.message, error.param, error.detail) == ("Other words.", "n", "Other words.")
    assert error.body.as_dict()["error"]["param"] == "n"


def test_the_arguments_of_a_kind_are_in_its_message() -> None:
    assert (
        ModelNotFound("a{b}").message == "Invalid 'model'. The model 'a{b}' does not exist or you do not have access."
    )
    assert ModelNotFound("foo").param == "model"
    assert InvalidRequest().message == "Invalid request."
    assert (InvalidRequest("No.", "n").message, InvalidRequest("No.", "n").param) == ("No.", "n")
    assert InvalidRequest("No.").param is None
    assert SubsystemOffline("The playground").message == "The playground is temporarily offline."
    assert APIError("No.", status=402).message == "No."
    assert APIError(status=599).message == "HTTP 599."


@pytest.mark.parametrize(
    ("wait", "seconds", "milliseconds", "words"),
    [
        (34, "34", "34000", "34 seconds"),
        (0.2, "1", "200", "1 second"),
        (1.0001, "2", "1001", "2 seconds"),
        (0, "1", "1", "1 second"),
    ],
)
def test_a_refusal_says_its_wait_in_words_and_headers(wait: float, seconds: str, milliseconds: str, words: str) -> None:
    error = RateLimitExceeded(wait)
    assert error.message == f"Rate limit exceeded. Retry after {words}."
    assert error.headers == {"Retry-After": seconds, "retry-after-ms": milliseconds}


def test_only_what_is_known_becomes_a_header() -> None:
    assert InvalidAPIKey().headers == {"WWW-Authenticate": "Bearer"}
    assert SubsystemOffline("Speech").headers is None
    assert SubsystemOffline("Speech", 2).headers == {"Retry-After": "2", "retry-after-ms": "2000"}
    assert SubsystemOffline("Speech", 0).headers == {"Retry-After": "1", "retry-after-ms": "1"}
    assert JobNotFound(headers={}).headers is None


def test_headers_are_merged_and_the_caller_s_win_in_any_case() -> None:
    error = RateLimitExceeded(5, headers={"retry-after": "9", "x-extra": "1"})
    assert error.headers == {"retry-after-ms": "5000", "retry-after": "9", "x-extra": "1"}
    assert InvalidAPIKey(headers={"www-authenticate": "DPoP"}).headers == {"www-authenticate": "DPoP"}


def test_the_caller_s_headers_are_neither_kept_nor_changed() -> None:
    given = {"x-a": "1"}
    error = RateLimitExceeded(5, headers=given)
    assert given == {"x-a": "1"}
    other = APIError(status=400, headers=given)
    given["x-a"] = "2"
    assert (error.headers or {})["x-a"] == "1"
    assert other.headers == {"x-a": "1"}


@pytest.mark.parametrize("status", [None, 0, 200, 399, 600, -1, "402", 402.0, [402]])
def test_a_status_that_is_no_error_is_a_config_error(status: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"APIError\(status=\.\.\.\) = .*: expected an HTTP error status, 400 to 599"
    ) as caught:
        APIError(status=status)
    assert caught.value.value == repr(status)
    with pytest.raises(ConfigError, match=r"JobNotFound\(status=\.\.\.\)"):
        JobNotFound(status=200)


@pytest.mark.parametrize("status", [400, 599, HTTPStatus.PAYMENT_REQUIRED])
def test_the_bounds_and_http_s_own_names_are_statuses(status: int) -> None:
    error = APIError(status=status)
    assert error.status == status
    assert type(error.status) is int
    assert str(error).startswith(f"{int(status)} ")


def test_a_kind_of_one_s_own_needs_a_row_only() -> None:
    class Teapot(APIError):
        row = Row(418, "odd_error", "teapot", "Short and stout.")

    assert (Teapot().status, Teapot().code, Teapot().message) == (418, "teapot", "Short and stout.")
    assert Teapot(status=419).status == 419


@every_kind
@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_an_error_survives_copy_and_pickle(
    twin: Callable[[APIError], APIError], make: Make, status: int, type: str, code: str
) -> None:
    error = make(headers={"x-a": "1"}, doc_url="https://docs.example")
    seen: list[APIError] = []
    token = raised.set(seen.append)
    try:
        other = twin(error)
    finally:
        raised.reset(token)
    assert other.__class__ is error.__class__
    assert (other.status, other.body, other.headers, str(other)) == (status, error.body, error.headers, str(error))
    assert (other.status_code, other.detail, other.args) == (status, error.message, error.args)
    assert seen == [], "a copy is not made by the host"


@pytest.mark.parametrize("twin", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
@pytest.mark.parametrize(
    "error",
    [
        ConfigError("x", 1, "2", where="a.toml, line 3"),
        PluginError("a", "broken", target="m:C", distribution="d 1", fix="Repair it"),
        UnknownComponent("a", ["b"]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_fault_survives_copy_and_pickle(error: FlexmwError, twin: Callable[[FlexmwError], FlexmwError]) -> None:
    other = twin(error)
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert vars(other) == vars(error)


# --- raised ----------------------------------------------------------------------------------------------------------


def test_an_error_reports_itself_when_it_is_made_whether_raised_or_not() -> None:
    seen: list[APIError] = []
    token = raised.set(seen.append)
    try:
        made = [JobNotFound(), ModelNotFound("foo")]
        with pytest.raises(ConfigError):
            APIError(status=200)
    finally:
        raised.reset(token)
    JobNotFound()
    assert seen == made
    assert seen[0] is made[0]


@pytest.mark.anyio
async def test_concurrent_requests_remember_only_their_own_also_from_threads_and_child_tasks() -> None:
    heard: dict[str, list[str]] = {"a": [], "b": []}

    async def request(name: str) -> None:
        raised.set(lambda error: heard[name].append(error.message))
        await anyio.lowlevel.checkpoint()
        JobNotFound(message=f"{name} task")
        await anyio.to_thread.run_sync(lambda: JobNotFound(message=f"{name} thread"))
        async with anyio.create_task_group() as group:
            group.start_soon(child, name)

    async def child(name: str) -> None:
        JobNotFound(message=f"{name} child")

    async with anyio.create_task_group() as group:
        group.start_soon(request, "a")
        group.start_soon(request, "b")
    assert heard == {name: [f"{name} {place}" for place in ("task", "thread", "child")] for name in "ab"}
    assert raised.get() is None


def test_a_thread_of_the_host_s_own_reports_nothing_and_breaks_nothing() -> None:
    seen: list[APIError] = []
    token = raised.set(seen.append)
    try:
        thread = threading.Thread(target=JobNotFound)
        thread.start()
        thread.join()
    finally:
        raised.reset(token)
    assert seen == []


# --- faults ----------------------------------------------------------------------------------------------------------


def test_a_config_error_names_option_value_expectation_and_place() -> None:
    error = ConfigError("RateLimit(rates=...)", "10/fortnight", "a rate such as '10/minute'")
    assert str(error) == "RateLimit(rates=...) = '10/fortnight': expected a rate such as '10/minute'"
    assert (error.option, error.value, error.expected, error.where) == (
        "RateLimit(rates=...)",
        "'10/fortnight'",
        "a rate such as '10/minute'",
        None,
    )
    assert isinstance(error, ValueError)
    placed = ConfigError("x", 1, "2", where="a.toml, line 3")
    assert (str(placed), placed.where) == ("a.toml, line 3: x = 1: expected 2", "a.toml, line 3")


def test_a_config_error_can_be_given_its_place_later_and_stays_itself() -> None:
    error = ConfigError("x", 1, "2")
    placed = error.at("a.toml, line 3")
    assert str(placed) == "a.toml, line 3: x = 1: expected 2"
    assert (placed.where, placed.option, placed.value, placed.expected) == ("a.toml, line 3", "x", "1", "2")
    assert (error.where, str(error)) == (None, "x = 1: expected 2")


@given(secret=st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=12, max_size=12))
def test_no_fault_shows_a_secret_of_its_value(secret: str) -> None:
    values: list[object] = [
        f"redis://app:{secret}@cache:6379",
        [f"redis://app:{secret}@cache:6379"],
        {"api_key": secret},
        f"Bearer {secret}",
        f"sk-{secret}",
        "x" * 270 + f" redis://app:{secret}@cache",
    ]
    for value in values:
        error = ConfigError("storage", value, "a URL")
        assert secret not in str(error) + repr(error) + error.value + str(error.at("f, line 1")) + repr(vars(error))
    fault = PluginError("a", f"failed to import: cannot reach redis://:{secret}@h", fix="Repair it")
    assert secret not in str(fault) + repr(fault)


def test_a_huge_value_is_cut() -> None:
    assert len(str(ConfigError("x", "y" * 10**6, "less"))) < 400


def test_a_plugin_error_names_entry_point_target_distribution_and_the_fix() -> None:
    error = PluginError("acme.audit", "is no class", target="acme:Audit", distribution="acme 1.2", fix="Upgrade it")
    assert str(error) == "plugin 'acme.audit' (acme:Audit, from acme 1.2): is no class. Upgrade it"
    assert (error.name, error.target, error.distribution, error.fix) == (
        "acme.audit",
        "acme:Audit",
        "acme 1.2",
        "Upgrade it",
    )
    assert str(PluginError("a", "is odd", fix="Fix it")) == "plugin 'a': is odd. Fix it"


def test_an_unknown_component_is_both_faults_and_asks_what_was_meant() -> None:
    error = UnknownComponent("evnelope", ["retry", "envelope"])
    assert isinstance(error, PluginError)
    assert isinstance(error, ConfigError)
    assert str(error) == (
        "plugin 'evnelope': no component has this name. "
        "Did you mean 'envelope'? Known: envelope, retry. Install the distribution that provides it"
    )
    assert (error.name, error.option, error.value, error.where) == ("evnelope", "component", "'evnelope'", None)
    assert error.expected == "one of envelope, retry; did you mean 'envelope'?"
    assert (error.target, error.distribution) == (None, None)
    placed = error.at("a.toml, line 3")
    assert isinstance(placed, UnknownComponent)
    assert str(placed) == f"a.toml, line 3: {error}"


def test_a_name_that_resembles_nothing_is_not_guessed_at() -> None:
    error = UnknownComponent("zzz", ["envelope"])
    assert "mean" not in str(error) + error.expected
    assert "Known: envelope." in str(error)


def test_one_root_catches_everything_and_a_response_is_no_fault() -> None:
    assert issubclass(APIError, FlexmwError)
    assert issubclass(APIError, HTTPException)
    assert not issubclass(APIError, ConfigError)
    assert not issubclass(PluginError, ConfigError)
    assert issubclass(ConfigError, FlexmwError)


# --- without an Envelope ----------------------------------------------------------------------------------------------


@every_kind
def test_a_plain_starlette_sends_status_headers_and_message(make: Make, status: int, type: str, code: str) -> None:
    async def endpoint(request: Request) -> JSONResponse:
        raise make(headers={"x-a": "1"})

    answer = TestClient(Starlette(routes=[Route("/", endpoint)])).get("/")
    assert (answer.status_code, answer.text, answer.headers["x-a"]) == (status, make().message, "1")
    for name, value in (make().headers or {}).items():
        assert answer.headers[name] == value


@every_kind
def test_a_plain_fastapi_sends_status_headers_and_detail(make: Make, status: int, type: str, code: str) -> None:
    app = FastAPI()

    @app.get("/")
    def endpoint() -> None:
        raise make(headers={"x-a": "1"})

    answer = TestClient(app).get("/")
    assert (answer.status_code, answer.json(), answer.headers["x-a"]) == (status, {"detail": make().message}, "1")


def test_a_host_s_own_handler_for_http_exceptions_gets_it() -> None:
    async def endpoint(request: Request) -> JSONResponse:
        raise JobNotFound()

    async def handler(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, APIError)
        return JSONResponse(error.body.as_dict(), error.status)

    app = Starlette(routes=[Route("/", endpoint)], exception_handlers={HTTPException: handler})
    assert TestClient(app).get("/").json()["error"]["code"] == "job_not_found"


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), -1.0, "3"])
def test_a_wait_that_is_no_wait_is_refused(seconds: Any) -> None:
    with pytest.raises(ConfigError, match=r"RateLimitExceeded\(retry_after\) = .*: expected a number of seconds"):
        RateLimitExceeded(seconds)
    with pytest.raises(ConfigError, match=r"SubsystemOffline\(retry_after\) = .*: expected a number of seconds"):
        SubsystemOffline("gpu", seconds)
