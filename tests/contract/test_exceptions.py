"""Exceptions: whose fault, which status, what may be said."""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import falcon
import httpx
import httpx2
import litestar.exceptions
import openai
import pytest
import requests
import trio
import werkzeug.exceptions
from fastapi.exceptions import RequestValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.websockets import WebSocketDisconnect

import flexmw
from flexmw.contract.exceptions import GONE, map_exception, stems_from
from tests.wire import call


def caught(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("it was intentional to raise")


def status_error(library: Any, status: int, **headers: str) -> BaseException:
    request = library.Request("GET", "http://upstream")
    response = library.Response(status, headers=headers, json={"error": {"message": "inside"}}, request=request)
    return caught(response.raise_for_status)


def sdk_error(status: int, body: Any, **headers: str) -> BaseException:
    response = httpx2.Response(status, headers=headers, request=httpx2.Request("GET", "http://upstream"))
    return openai.APIStatusError("text with sk-0123456789abcdef", response=response, body=body)


CASES: list[tuple[BaseException, int, str, bool]] = [
    (ValueError("x"), 500, "internal_error", False),
    (flexmw.JobNotFound(), 404, "job_not_found", True),
    (HTTPException(403), 403, "permission_denied", True),
    (HTTPException(200), 500, "internal_error", False),
    (TimeoutError(), 500, "upstream_timeout", False),
    (trio.TooSlowError(), 500, "upstream_timeout", False),
    (httpx.ConnectTimeout("x"), 500, "upstream_timeout", False),
    (httpx2.ConnectError("x"), 502, "bad_gateway", False),
    (requests.ConnectTimeout(), 500, "upstream_timeout", False),
    (requests.ConnectionError(), 502, "bad_gateway", False),
    (status_error(httpx, 401), 502, "bad_gateway", False),
    (status_error(httpx2, 404), 502, "bad_gateway", False),
    (status_error(httpx, 504), 500, "upstream_timeout", False),
    (status_error(httpx, 503), 503, "service_unavailable", False),
    (sdk_error(400, {"message": "Bad n.", "code": "bad_n"}), 400, "bad_n", False),
    (sdk_error(429, None), 429, "rate_limit_exceeded", False),
    (sdk_error(403, {"message": "no"}), 502, "bad_gateway", False),
    (sdk_error(500, {"message": "no"}), 502, "bad_gateway", False),
    (openai.APITimeoutError(request=httpx2.Request("GET", "http://u")), 500, "upstream_timeout", False),
    (litestar.exceptions.NotFoundException("Gone fishing."), 404, "not_found", True),
    (werkzeug.exceptions.Conflict("Twice."), 409, "conflict", True),
    (falcon.HTTPNotFound(), 404, "not_found", True),
    (falcon.HTTPError(HTTPStatus.CONFLICT), 409, "conflict", True),
    (HTTPException(402, {"error": {"message": "m", "code": "c"}}), 402, "c", True),  # type: ignore[arg-type]
    (HTTPException(404, {"jsonrpc": "2.0"}), 404, "not_found", True),  # type: ignore[arg-type]
    (HTTPException(404, {}), 404, "not_found", True),  # type: ignore[arg-type]
    (RequestValidationError([{"loc": ("query", "n"), "msg": "bad", "type": "x"}]), 422, "validation_error", True),
    (RequestValidationError([{"loc": ("body", 1), "msg": "bad", "type": "json_invalid"}]), 400, "invalid_json", True),
    (RequestValidationError([]), 422, "validation_error", True),
    (ClientDisconnect(), GONE, "client_closed_request", True),
    (WebSocketDisconnect(), GONE, "client_closed_request", True),
    (ExceptionGroup("", [HTTPException(404)]), 404, "not_found", True),
    (ExceptionGroup("", [ExceptionGroup("", [flexmw.InsufficientCredit()])]), 402, "402", True),
    (ExceptionGroup("", [HTTPException(404), HTTPException(404)]), 500, "internal_error", False),
]


@pytest.mark.parametrize(
    ("error", "status", "code", "intentional"),
    CASES,
    ids=[f"{n}-{type(case[0]).__name__}" for n, case in enumerate(CASES)],
)
def test_an_exception_becomes(error: BaseException, status: int, code: str, intentional: bool) -> None:
    mapping = map_exception(error)
    assert (mapping.status, mapping.error.code, mapping.intentional) == (status, code, intentional)
    assert "sk-" not in mapping.error.message
    assert intentional or mapping.exception is error


def test_options_change_the_status_of_timeouts_and_validation_alone() -> None:
    assert map_exception(TimeoutError(), timeout_status=504).status == 504
    assert map_exception(flexmw.UpstreamTimeout(), timeout_status=504).status == 500
    invalid = RequestValidationError([{"loc": ("query", "n"), "msg": "bad", "type": "x"}])
    assert map_exception(invalid, validation_status=400).status == 400
    assert map_exception(HTTPException(422), validation_status=400).status == 422


def test_what_a_kind_was_raised_from_is_recorded_and_not_the_kind() -> None:
    cause = KeyError("x")
    kind = flexmw.UpstreamTimeout()
    kind.__cause__ = cause
    assert map_exception(kind).exception is cause
    assert map_exception(HTTPException(404)).exception is None


def test_an_upstreams_wait_is_kept() -> None:
    assert map_exception(status_error(httpx, 429, **{"Retry-After": "5"})).headers == (("retry-after", "5"),)


@pytest.mark.anyio
async def test_json_is_the_clients_fault_only_where_the_host_was_reading_its_request() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{", "more_body": False}

    with pytest.raises(json.JSONDecodeError) as info:
        await Request({"type": "http", "headers": []}, receive).json()
    assert (map_exception(info.value).status, map_exception(info.value).intentional) == (400, True)
    assert map_exception(caught(lambda: json.loads("{"))).status == 500


@pytest.mark.anyio
async def test_a_form_that_cannot_be_parsed_is_the_clients_fault_without_a_starlette_app_too() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"no boundary", "more_body": False}

    headers = [(b"content-type", b"multipart/form-data; boundary=x")]
    with pytest.raises(MultiPartException) as info:
        await Request({"type": "http", "headers": headers}, receive).form()
    assert (map_exception(info.value).status, map_exception(info.value).intentional) == (400, True)
    assert map_exception(MultiPartException("raised by the app itself")).status == 500


def test_an_exception_in_the_course_of_an_ordinary_except_is_a_crash() -> None:
    def run() -> None:
        try:
            raise HTTPException(404)
        except HTTPException:
            raise KeyError("bug") from None

    def chained() -> None:
        try:
            raise HTTPException(404)
        except HTTPException as error:
            raise KeyError("bug") from error

    assert map_exception(caught(run)).status == 500
    assert map_exception(caught(chained)).status == 500


@pytest.mark.anyio
async def test_the_exception_that_a_broken_handler_was_handling_decides() -> None:
    async def refuse(request: Request) -> Response:
        raise HTTPException(402, "No credit.")

    async def broken(request: Request, error: Exception) -> Response:
        try:
            raise KeyError("first bug")
        except KeyError:
            raise ValueError("second bug") from None

    app = Starlette(routes=[Route("/", refuse)], exception_handlers={HTTPException: broken})
    error = (await call(app)).raised
    assert isinstance(error, ValueError)
    assert (map_exception(error).status, map_exception(error).error.message) == (402, "No credit.")


def test_the_text_of_an_exception_deep_in_a_chain_is_not_shown_either() -> None:
    def run() -> None:
        try:
            raise ValueError("row 7 of users")
        except ValueError as error:
            try:
                raise KeyError("x") from error
            except KeyError as second:
                raise HTTPException(502, "failed: row 7 of users") from second

    assert map_exception(caught(run)).error.message == "Bad gateway."


def test_a_5xx_message_that_repeats_its_cause_is_not_shown() -> None:
    def run() -> None:
        try:
            raise ValueError("row 7 of users")
        except ValueError as error:
            raise HTTPException(500, f"failed: {error}") from error

    assert map_exception(caught(run)).error.message == "Internal server error."
    assert map_exception(HTTPException(503, "The queue is closed.")).error.message == "The queue is closed."


def test_a_broken_list_of_validation_errors_is_still_a_validation_error() -> None:
    class Broken(RequestValidationError):
        def errors(self) -> Any:
            raise RuntimeError

    assert map_exception(Broken([])).status == 422


def test_chains_are_followed_to_their_source_and_end() -> None:
    source, other = ValueError(), ValueError()
    wrapped = RuntimeError()
    wrapped.__context__ = source
    group = ExceptionGroup("", [KeyError(), wrapped])
    assert stems_from(group, source)
    assert not stems_from(group, other)
    source.__context__ = wrapped
    assert not stems_from(wrapped, other)


def test_an_exception_that_no_rule_can_read_is_a_crash() -> None:
    class Broken(HTTPException):
        def __init__(self) -> None:
            self.status_code = 404

        @property
        def detail(self) -> str:  # type: ignore[override]
            raise RuntimeError("not set")

    assert map_exception(Broken()).status == 500  # no rule can read it: a crash
