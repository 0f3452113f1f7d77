"""What Retry says without OpenTelemetry: log lines, notes on errors, a function of the user's."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import httpx2
import pytest

import flexmw
from flexmw.kit.log_limit import LogLimit
from flexmw.retry import log
from flexmw.testing import FakeClock, HostileServer

LIBRARIES = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])


def client(library: Any, **options: Any) -> Any:
    return flexmw.wrap_client(library.Client(timeout=20.0, trust_env=False), flexmw.Retry(jitter=0.0, **options))


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(entry.levelname, entry.getMessage()) for entry in caplog.records if entry.name == "flexmw.retry"]


@LIBRARIES
def test_each_further_attempt_is_an_info_line_with_its_reason_and_its_wait(
    library: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="flexmw.retry")
    with HostileServer(["429:ms=0.01"]) as server, client(library) as http:
        http.post(f"{server.url}/v1/secret-path?key=secret", json={})
        (line,) = lines(caplog)
        assert line == (
            "INFO",
            f"POST {server.url}: attempt 2 in 0.01 s (the server named the wait): attempt 1 was refused: 429",
        )


@LIBRARIES
def test_an_ambiguous_call_is_a_warning_and_a_note_on_the_error(library: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="flexmw.retry")
    with HostileServer(["rst"]) as server, client(library) as http:
        with pytest.raises(library.ReadError) as caught:
            http.post(server.url, json={})
        said = "given back as ambiguous after 1 attempt, reason: unsafe_method; the request may have been executed"
        assert lines(caplog) == [("WARNING", f"POST {server.url}: ReadError: {said}")]
        assert caught.value.__notes__ == [f"flexmw: {said}"]


def test_a_refusal_that_is_given_back_is_a_debug_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="flexmw.retry")
    with HostileServer(then="429:seconds=90") as server, client(httpx) as http:
        http.get(server.url)
        said = "given back as refused after 1 attempt, reason: retry_after_too_long"
        assert lines(caplog) == [("DEBUG", f"GET {server.url}: 429: {said}")]


def test_a_good_response_and_a_plain_404_say_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="flexmw.retry")
    with HostileServer(["ok", "404"]) as server, client(httpx) as http:
        http.get(server.url)
        http.get(server.url)
    assert lines(caplog) == []


@LIBRARIES
def test_on_retry_is_called_before_each_wait_with_the_outcome_so_far(library: Any) -> None:
    calls: list[tuple[str, int, float, str]] = []

    def note(outcome: flexmw.Outcome, delay: float, reason: str) -> None:
        calls.append((outcome.outcome, outcome.attempts, delay, reason))

    with HostileServer(["429:ms=0.01", "503:ms=0.02"]) as server, client(library, on_retry=note) as http:
        http.get(server.url)
    assert calls == [("refused", 1, 0.01, "429"), ("refused", 2, 0.02, "503")]


def test_what_on_retry_raises_ends_the_call_and_closes_the_response() -> None:
    def stop(outcome: flexmw.Outcome, delay: float, reason: str) -> None:
        raise LookupError(reason)

    with HostileServer(then="429:ms=0.01") as server, client(httpx, on_retry=stop) as http:
        with pytest.raises(LookupError, match="429"):
            http.get(server.url)
        assert len(server.requests) == 1


def test_an_async_on_retry_is_refused() -> None:
    async def note(outcome: flexmw.Outcome, delay: float, reason: str) -> None: ...

    with pytest.raises(flexmw.ConfigError, match="a plain function, not an async one"):
        flexmw.Retry(on_retry=note)


def test_the_waits_of_pace_count_in_the_outcome() -> None:
    quota = (("x-ratelimit-limit", "1"), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "300ms"))
    plain = httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(200, headers=quota)))
    with flexmw.wrap_client(plain, flexmw.Retry(), flexmw.Pace()) as http:
        http.get("http://paced.test/")
        outcome = flexmw.outcome_of(http.get("http://paced.test/"))
        assert outcome is not None
        assert 0.1 < outcome.waited < 5.0


def test_the_lines_of_an_upstream_that_is_down_are_bounded(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    monkeypatch.setattr(log, "LIMIT", LogLimit(burst=3, per_second=1.0, monotonic=clock.monotonic))
    plain = httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(500)))
    with flexmw.wrap_client(plain, flexmw.Retry()) as http:
        for _ in range(8):
            http.post("http://down.test/", json={})
        clock.advance(1.0)
        http.post("http://down.test/", json={})
    warnings = [message for level, message in lines(caplog) if level == "WARNING"]
    assert len(warnings) == 4
    assert warnings[-1].endswith(" (5 more such lines were left out)")
