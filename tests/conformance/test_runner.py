"""The runner: limits are obeyed, equal requests are sent once, and lost responses are faults."""

from __future__ import annotations

from flexmw.conformance.runner import Runner
from flexmw.conformance.target import Target
from flexmw.conformance.values import NoResponse, Request, Response
from tests.conformance.played_probes import BY_ID, error

REFUSED = error(
    429,
    "rate_limit_exceeded",
    "rate_limit_error",
    retry_after="7",
    x_ratelimit_limit_requests="10",
    x_ratelimit_remaining_requests="0",
    x_ratelimit_reset_requests="1800000007",
)
NO_SUCH_ROUTE = error(404, x_request_id="1")


def test_a_429_is_obeyed_and_the_question_asked_again() -> None:
    responses = iter([REFUSED, REFUSED, NO_SUCH_ROUTE])
    slept: list[float] = []
    lines: list[str] = []
    runner = Runner(
        Target(), lambda request: next(responses), sleep=slept.append, progress=lines.append, pause=lines.append
    )
    (row,) = runner.run([BY_ID["errors/unknown-route"]])
    assert (row.state, slept, runner.waited, runner.requests) == ("passed", [7.0, 7.0], 14.0, 3)
    assert lines == ["1/1 errors/unknown-route", *["rate limited: waiting 7 s"] * 2]


def test_a_limiter_that_asks_for_more_than_the_patience_is_no_fault_of_the_probe() -> None:
    runner = Runner(Target(), lambda request: REFUSED, sleep=lambda seconds: None, patience=15.0)
    row = runner.judge(BY_ID["errors/unknown-route"])
    assert row.state == "skipped"
    assert row.notes == ("rate limited: the 429 asks for 7 s, --patience leaves 1 s",)


def test_a_429_with_wrong_headers_fails_whichever_probe_meets_it() -> None:
    runner = Runner(Target(), lambda request: error(429), sleep=lambda seconds: None)
    row = runner.judge(BY_ID["errors/unknown-route"])
    assert row.state == "failed"
    assert row.notes[0].startswith("a 429 without retry-after")


def test_equal_requests_of_different_probes_are_sent_once() -> None:
    sent: list[Request] = []

    def respond(request: Request) -> Response:
        sent.append(request)
        return NO_SUCH_ROUTE

    runner = Runner(Target(), respond)
    rows = list(runner.run([BY_ID["errors/unknown-route"], BY_ID["methods/head-of-nothing"], BY_ID["ids/on-errors"]]))
    assert [request.method for request in sent] == ["GET", "HEAD", "POST"]
    assert rows[1].exchanges == ("GET /flexmw-check/no-such-route 404", "HEAD /flexmw-check/no-such-route 404")


def test_a_burst_comes_last_and_is_told_in_one_line() -> None:
    runner = Runner(Target(burst=30), lambda request: NO_SUCH_ROUTE)
    rows = list(runner.run([BY_ID["limits/refused"], BY_ID["errors/unknown-route"]]))
    assert [row.probe.id for row in rows] == ["errors/unknown-route", "limits/refused"]
    assert rows[1].exchanges == ("GET /flexmw-check/no-such-route 404 (30 times)",)


def test_a_request_without_a_response_is_a_fault() -> None:
    def respond(request: Request) -> Response:
        raise NoResponse("ConnectionResetError: reset")

    row = Runner(Target(), respond).judge(BY_ID["errors/unknown-route"])
    assert (row.state, row.notes) == ("failed", ("no response: ConnectionResetError: reset",))
