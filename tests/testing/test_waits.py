from __future__ import annotations

import math

import httpx
import pytest

from flexmw.contract import wait_of
from flexmw.errors import ConfigError
from flexmw.testing import FakeClock, HostileServer
from flexmw.testing.hostile import WAITS, Response
from flexmw.testing.hostile.waits import render
from tests.testing.clients import plain_client

NOW = 1_800_000_000.25
DATE = "Fri, 15 Jan 2027 08:00:00 GMT"

# form -> the header lines that differ from a bare 429, for a wait of 2 s
LINES: dict[str, list[tuple[str, str]]] = {
    "none": [],
    "seconds": [("retry-after", "2")],
    "fraction": [("retry-after", "2.000")],
    "zero": [("retry-after", "0")],
    "negative": [("retry-after", "-5")],
    "garbage": [("retry-after", "soon")],
    "empty": [("retry-after", "")],
    "huge": [("retry-after", "1000000000")],
    "digits": [("retry-after", "9" * 400)],
    "infinite": [("retry-after", "inf")],
    "nan": [("retry-after", "nan")],
    "duplicate": [("retry-after", "2"), ("retry-after", "4")],
    "date": [("retry-after", "Fri, 15 Jan 2027 08:00:03 GMT")],
    "date-past": [("retry-after", "Fri, 15 Jan 2027 07:00:00 GMT")],
    "date-skewed": [("date", "Fri, 15 Jan 2027 09:00:00 GMT"), ("retry-after", "Fri, 15 Jan 2027 09:00:03 GMT")],
    "date-behind": [("date", "Fri, 15 Jan 2027 07:00:00 GMT"), ("retry-after", "Fri, 15 Jan 2027 07:00:03 GMT")],
    "ms": [("retry-after-ms", "2000")],
    "reset": [
        ("x-ratelimit-limit-requests", "10"),
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", "1800000003"),
    ],
    "reset-duration": [("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "2s")],
    "contract": [
        ("retry-after", "2"),
        ("x-ratelimit-limit-requests", "10"),
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", "1800000003"),
    ],
    "should-retry": [("x-should-retry", "true")],
    "should-not-retry": [("x-should-retry", "false")],
}
ASKS = {"seconds", "fraction", "date", "date-skewed", "date-behind", "ms", "reset", "reset-duration", "contract"}


def answered(form: str) -> httpx.Headers:
    clock = FakeClock(now=NOW)
    with HostileServer(f"429:{form}=2", clock=clock) as server, plain_client() as client:
        response = client.post(server.url, content=b"x")
        assert (response.status_code, server.executions) == (429, 0)
        return response.headers


def test_the_lines_cover_every_form() -> None:
    assert set(LINES) == set(WAITS)


@pytest.mark.parametrize("form", LINES)
def test_a_form_is_on_the_wire_as_written(form: str) -> None:
    lines = [(name.lower(), value) for name, value in answered(form).multi_items()]
    assert lines.count(("date", DATE)) == (0 if "date" in dict(LINES[form]) else 1)
    lines = [line for line in lines if line != ("date", DATE) and line[0] not in ("content-type", "content-length")]
    assert sorted(lines) == sorted(LINES[form])


@pytest.mark.parametrize("form", sorted(ASKS))
def test_a_form_asks_for_its_seconds_as_the_contract_reads_them(form: str) -> None:
    wait = wait_of(answered(form), now=NOW)
    assert wait is not None
    assert 2.0 <= wait.seconds <= math.ceil(2.0) + 1


def test_a_duplicate_asks_for_the_longer_of_its_two_lines() -> None:
    wait = wait_of(answered("duplicate"), now=NOW)
    assert wait is not None
    assert wait.seconds == 4.0


def test_a_form_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(ConfigError, match=r"tomorrow.*seconds, fraction"):
        Response(429, retry="tomorrow")
    with pytest.raises(ConfigError, match=r"tomorrow.*seconds, fraction"):
        render("tomorrow", wait=1.0, now=NOW)


def test_headers_of_ones_own_are_sent_beside_a_form() -> None:
    answer = Response(503, headers=(("X-Why", "maintenance"), ("x-should-retry", "false")), retry="seconds", wait=3)
    with HostileServer(answer) as server, plain_client() as client:
        headers = client.get(server.url).headers
    assert (headers["x-why"], headers["x-should-retry"], headers["retry-after"]) == ("maintenance", "false", "3")
