"""What the body of a refusal says: the wait of a ``RetryInfo``; and bodies that stay silent."""

from __future__ import annotations

import json
from typing import Any

import pytest

import flexmw
from flexmw.retry.response import wait_in_body
from flexmw.testing import FakeClock, HostileServer
from flexmw.testing.hostile import Response, Stall
from tests.clients.wires import WIRES, Wire
from tests.retry.outcomes import outcome

wires = pytest.mark.parametrize("wire", WIRES, ids=str)
RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
QUOTA_FAILURE = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []}
EXHAUSTED = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [QUOTA_FAILURE, RETRY_INFO]}}


def call(wire: Wire, method: str, url: str, clock: FakeClock, **options: Any) -> Any:
    policy = flexmw.Retry(clock=clock, jitter=0.0, **options)
    request: dict[str, Any] = {"json": {}} if method == "POST" else {}
    [result] = wire.call(method, url, policy, clock=clock, **request)
    return result


@wires
@pytest.mark.parametrize("body", [EXHAUSTED, [EXHAUSTED]], ids=["object", "list"])
def test_the_wait_of_a_retry_info_is_kept(wire: Wire, body: Any) -> None:
    clock = FakeClock()
    with HostileServer([Response(429, body=body)]) as server:
        result = call(wire, "POST", server.url, clock)
    assert (result.status_code, clock.slept) == (200, [34.5])


@wires
def test_a_retry_info_of_a_503_is_a_wait_and_no_licence(wire: Wire) -> None:
    clock = FakeClock()
    with HostileServer([Response(503, body=EXHAUSTED)]) as server:
        assert call(wire, "GET", server.url, clock).status_code == 200
        assert clock.slept == [34.5]
        server.follow([Response(503, body=EXHAUSTED)])
        assert outcome(call(wire, "POST", server.url, clock)).outcome == "ambiguous"


@wires
def test_a_retry_info_that_is_too_long_is_given_back_with_its_body(wire: Wire) -> None:
    clock = FakeClock()
    with HostileServer([Response(429, body=EXHAUSTED)]) as server:
        result = call(wire, "POST", server.url, clock, max_retry_after=30.0)
    assert (outcome(result).reason, result.json(), clock.slept) == ("retry_after_too_long", EXHAUSTED, [])


@wires
def test_a_head_that_names_a_wait_comes_before_the_body(wire: Wire) -> None:
    clock = FakeClock()
    with HostileServer([Response(429, headers=(("Retry-After", "2"),), body=EXHAUSTED)]) as server:
        assert call(wire, "POST", server.url, clock).status_code == 200
    assert clock.slept == [2.0]


@wires
def test_waits_of_bodies_cost_no_budget(wire: Wire) -> None:
    clock = FakeClock()
    options = {"budget_ratio": 0.0, "budget_per_second": 0.0, "attempts": 6}
    with HostileServer([Response(429, body=EXHAUSTED)] * 5) as server:
        assert call(wire, "POST", server.url, clock, max_retry_after=600.0, **options).status_code == 200


@wires
def test_a_refusal_whose_body_stays_silent_is_sent_again(wire: Wire) -> None:
    with HostileServer([Stall(response=Response(429, body=EXHAUSTED))]) as server:
        [result] = wire.call("POST", server.url, flexmw.Retry(random=lambda: 0.0), json={}, client={"timeout": 60.0})
        assert (result.status_code, len(server.requests)) == (200, 2)


@wires
def test_an_error_body_that_stays_silent_holds_no_classified_call(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flexmw.retry.reading.CLASSIFY_SECONDS", 0.1)
    seen: list[bytes] = []

    def classify(response: Any, body: bytes) -> Any:
        seen.append(body)
        return "refused" if response.status_code == 403 else None

    policy = flexmw.Retry(classify=classify, random=lambda: 0.0)
    with HostileServer([Stall(response=Response(403, body=b"slow down, please"))]) as server:
        [result] = wire.call("POST", server.url, policy, json={}, client={"timeout": 60.0})
        assert (result.status_code, len(server.requests)) == (200, 2)
    assert seen[0] == b"slow dow"


@pytest.mark.parametrize(
    "body",
    [
        [],
        [1],
        {"error": None},
        {"error": {"details": None}},
        {"error": {"details": [1, {"@type": RETRY_INFO["@type"]}]}},
        {"error": {"details": [{**RETRY_INFO, "retryDelay": "0s"}]}},
        {"error": {"details": [{**RETRY_INFO, "retryDelay": "-3s"}]}},
        {"error": {"details": [{**RETRY_INFO, "retryDelay": 3}]}},
        {"error": {"details": [{**RETRY_INFO, "@type": "x/google.rpc.RetryInfo"}]}},
    ],
    ids=str,
)
def test_a_body_without_a_readable_retry_info_names_no_wait(body: Any) -> None:
    assert wait_in_body(json.dumps(body).encode(), "application/json") is None


def test_a_retry_info_counts_in_json_alone() -> None:
    body = json.dumps(EXHAUSTED).encode()
    assert wait_in_body(body, "text/plain") is None
    assert wait_in_body(body[:-1], "application/json") is None
    assert wait_in_body(body, "application/json") is not None
