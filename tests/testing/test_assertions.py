"""Assertions on outcomes, errors and executions say what differs."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

import flexmw
from flexmw.testing import Executions, assert_error, assert_outcome


def client_of(status: int) -> httpx.Client:
    transport = httpx.MockTransport(lambda request: httpx.Response(status))
    return flexmw.wrap_client(httpx.Client(transport=transport))


def test_an_outcome_that_is_another_is_shown_whole() -> None:
    with client_of(500) as client:
        response = client.post("https://api.example/", json={})
    assert_outcome(response, "ambiguous", attempts=1)
    assert_outcome(response, reason="unsafe_method")
    with pytest.raises(
        AssertionError, match="outcome is 'ambiguous', expected 'answered'; attempts is 1, expected 2, in "
    ):
        assert_outcome(response, "answered", attempts=2)
    with pytest.raises(TypeError, match="an Outcome has no field 'atempts': it has outcome, attempts"):
        assert_outcome(response, atempts=2)


def test_an_error_of_pytest_is_looked_into() -> None:
    def lose(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("lost", request=request)

    with flexmw.wrap_client(httpx.Client(transport=httpx.MockTransport(lose))) as client:
        with pytest.raises(httpx.ReadTimeout) as caught:
            client.post("https://api.example/", json={})
        assert_outcome(caught, "ambiguous")
        assert_outcome(caught.value, "ambiguous")


@pytest.mark.parametrize("subject", [httpx.Response(200), ValueError("other"), None])
def test_without_an_outcome_the_client_is_asked_about(subject: Any) -> None:
    with pytest.raises(AssertionError, match=r"no outcome on .*: is its client wrapped"):
        assert_outcome(subject, "answered")


def test_an_error_is_the_one_that_is_expected() -> None:
    async def fail(scope: Any, receive: Any, send: Any) -> None:
        raise flexmw.ModelNotFound("foo")

    response = TestClient(flexmw.wrap_app(fail)).get("/")
    assert assert_error(response, 400, code="model_not_found", param="model").type == "invalid_request_error"
    with pytest.raises(AssertionError, match="status is 400, expected an error with 404, in "):
        assert_error(response, 404)
    with pytest.raises(AssertionError, match="code is 'model_not_found', expected 'not_found', in ErrorBody"):
        assert_error(response, 400, code="not_found")
    with pytest.raises(AssertionError, match="status is 400, expected an error with 400, in plain"):
        assert_error(httpx.Response(400, text="plain"), 400)


def test_only_requests_that_reach_the_app_are_counted() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body"})

    executions = Executions(app)
    client = TestClient(flexmw.wrap_app(executions, flexmw.RateLimit("2/minute")))
    for path in ("/a", "/b", "/a"):
        client.get(path)
    assert executions == {"GET /a": 1, "GET /b": 1}
    assert executions["POST /a"] == 0
