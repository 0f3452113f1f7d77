"""Websockets on real sockets: a denial with the error in it before accepting, a close frame that says why after."""

from __future__ import annotations

import json
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.envelope.apps import SECRET
from tests.waiting import LONGEST_WAIT

SERVERS = ["fastapi-h11", "starlette-h11", "fastapi-hypercorn", "fastapi-granian"]


@pytest.fixture(params=SERVERS)
def url(request: pytest.FixtureRequest, urls: dict[str, str]) -> str:
    return urls[request.param].replace("http", "ws")


def denied(url: str) -> tuple[Any, dict[str, Any]]:
    with pytest.raises(InvalidStatus) as caught:
        connect(url, proxy=None)
    answer = caught.value.response
    assert SECRET.encode() not in answer.body
    assert answer.headers["x-request-id"]
    return answer, json.loads(answer.body)["error"]


def closed(url: str) -> ConnectionClosed:
    with connect(url, proxy=None) as socket, pytest.raises(ConnectionClosed) as caught:
        list(iter(lambda: socket.recv(timeout=LONGEST_WAIT), None))
    return caught.value


def test_an_unknown_route_is_denied_with_the_envelope(url: str) -> None:
    answer, error = denied(f"{url}/ws/nowhere")
    assert answer.status_code == 403
    assert error["code"] == "permission_denied"


def test_a_refusal_before_accepting_carries_its_reason(url: str) -> None:
    answer, error = denied(f"{url}/ws/deny")
    assert answer.status_code == 403
    assert error["message"] == "Members only."


def test_an_http_exception_before_accepting_keeps_status_and_headers(url: str) -> None:
    answer, error = denied(f"{url}/ws/http")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert (error["message"], error["code"]) == ("No token.", "invalid_api_key")


def test_a_crash_before_accepting_is_a_500(url: str) -> None:
    answer, error = denied(f"{url}/ws/crash-before")
    assert answer.status_code == 500
    assert error["code"] == "internal_error"


def test_a_crash_after_accepting_closes_with_1011(url: str) -> None:
    frame = closed(f"{url}/ws/crash").rcvd
    assert frame is not None
    assert (frame.code, frame.reason) == (1011, "server_error")


def test_a_kind_after_accepting_closes_with_1008_and_its_code(url: str) -> None:
    frame = closed(f"{url}/ws/kind").rcvd
    assert frame is not None
    assert (frame.code, frame.reason) == (1008, "402")


def test_leaving_without_closing_sends_a_close_frame(url: str) -> None:
    frame = closed(f"{url}/ws/leave").rcvd
    assert frame is not None
    assert frame.code == 1000
