"""What a component outside Retry may ask of it for one request: fewer attempts, a failure back at once, a deadline."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import httpx
import pytest

import flexmw
from flexmw.retry import call_ends, limit_attempts, outcome_of, set_outcome
from flexmw.testing import FakeClock, HostileServer, play

URL = "https://api.test/v1/jobs"


def sends(outcomes: list[Any], method: str = "POST", retry: flexmw.Retry | None = None, **limits: Any) -> Any:
    request = httpx.Request(method, URL)
    limit_attempts(request, **limits)
    return play(retry or flexmw.Retry(clock=FakeClock()), outcomes, request)


def refusal() -> httpx.Response:
    return httpx.Response(429, headers={"retry-after": "1"}, content=b"{}")


def test_a_refusal_comes_back_at_once_where_it_is_handed_back() -> None:
    played = sends([refusal(), 200], hand_back=("unsent", "refused"))
    assert (played.count(flexmw.Send), played.count(flexmw.Sleep)) == (1, 0)
    outcome = played.response.extensions["flexmw"]
    assert (outcome.outcome, outcome.reason) == ("refused", "handed_back")


def test_an_outcome_that_is_not_handed_back_is_retried() -> None:
    assert sends([refusal(), 200], hand_back=("unsent",)).count(flexmw.Send) == 2
    assert sends([503, 200], "GET", hand_back=("unsent", "refused")).count(flexmw.Send) == 2
    assert sends([503, 200], "GET", hand_back=("ambiguous",)).count(flexmw.Send) == 1


def test_a_refusal_after_a_lost_attempt_under_an_honoured_key_is_resolved_and_not_handed_back() -> None:
    retry = flexmw.Retry(clock=FakeClock(), auto_key=True, key_origins=("https://api.test",))
    played = sends([500, refusal(), 200], retry=retry, hand_back=("unsent", "refused"))
    assert played.count(flexmw.Send) == 3
    assert played.response.extensions["flexmw"].outcome == "answered"


def test_the_smaller_number_of_attempts_counts() -> None:
    assert sends([503], "GET", attempts=2).count(flexmw.Send) == 2
    assert sends([503], "GET", attempts=50).count(flexmw.Send) == 3


def test_earlier_attempts_count_as_one_call_and_in_the_resend_count() -> None:
    played = sends([503, 200], "GET", earlier=2)
    resends = [each.request.extensions["flexmw.resends"] for each in played.effects if isinstance(each, flexmw.Send)]
    assert resends == [2, 3]
    retry = flexmw.Retry(clock=FakeClock(), budget_ratio=1.0, budget_per_second=0.0)
    sent = [sends([503], "GET", retry=retry, earlier=1).count(flexmw.Send) for _ in range(3)]
    assert sent == [2, 1, 1], "the budget begins with one retry, and no call has added to it"
    assert sends([503], "GET", retry=retry).count(flexmw.Send) == 2


def test_the_earlier_deadline_counts() -> None:
    clock = FakeClock()
    for own in (None, 60.0):
        retry = flexmw.Retry(clock=clock, deadline=own)
        played = sends([refusal()], retry=retry, ends=clock.monotonic() + 0.5)
        assert played.response.extensions["flexmw"].reason == "deadline"


def test_limits_are_removed_by_a_call_without_any() -> None:
    request = httpx.Request("GET", URL)
    limit_attempts(request, attempts=1)
    limit_attempts(request)
    assert request.extensions == {}


@pytest.mark.parametrize("limits", [{"hand_back": ("lost",)}, {"hand_back": "refused"}, {"attempts": 0}])
def test_limits_that_cannot_work_are_refused(limits: Any) -> None:
    with pytest.raises(flexmw.ConfigError, match="limit_attempts"):
        limit_attempts(httpx.Request("GET", URL), **limits)


def test_an_outcome_is_replaced_on_a_response_and_on_an_error() -> None:
    known = flexmw.Outcome("refused", 4)
    response, error = httpx.Response(429), httpx.ReadError("lost")
    for target in (response, error):
        set_outcome(target, known)
        assert outcome_of(target) is known


def test_the_end_of_a_call_is_known_to_a_component_outside() -> None:
    ends: list[float | None] = []

    class Outside:
        name, api, order = "acme.outside", 1, flexmw.Order(before=("retry",))

        def flow(self, request: flexmw.Request) -> flexmw.Flow:
            ends.append(call_ends(request))
            response = yield from flexmw.send(request)
            ends.append(call_ends(request))
            return response

    clock = FakeClock()
    with (
        HostileServer() as server,
        flexmw.wrap_client(httpx.Client(), Outside(), flexmw.Retry(deadline=30.0, clock=clock), clock=clock) as client,
    ):
        client.get(server.url)
    assert ends == [None, clock.monotonic() + 30.0]


class Elsewhere:
    """Sends a request that failed to another server, whatever the server had done with it."""

    def __init__(self, url: str, earlier: int) -> None:
        self.url, self.earlier = url, earlier

    def flow(self, request: httpx.Request) -> Any:
        response = yield flexmw.Send(request)
        if response.status_code == 500:
            yield flexmw.Discard(response)
            request = httpx.Request(request.method, self.url, extensions=request.extensions)
            limit_attempts(request, earlier=self.earlier)
            response = yield flexmw.Send(request)
        return response


@pytest.mark.parametrize(("earlier", "executions"), [(1, 1), (0, 0)])
def test_a_component_that_counts_its_attempts_may_send_a_lost_call_elsewhere(earlier: int, executions: int) -> None:
    with HostileServer(["500"]) as first, HostileServer(["ok"]) as second, httpx.Client() as client:
        flexmw.wrap_client(client, Elsewhere(f"{second.url}/v1/jobs", earlier), flexmw.Retry())
        with nullcontext() if earlier else pytest.raises(httpx.TransportError, match="nothing was sent"):
            assert client.post(f"{first.url}/v1/jobs").status_code == 200
        assert (first.executions, second.executions) == (1, executions)
