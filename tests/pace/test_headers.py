"""Reading rate-limit headers: limits, resets, clock offsets, and headers that make no sense."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flexmw.pace.core import PaceState
from flexmw.pace.headers import read_limit, server_time
from flexmw.pace.redis import dump, load
from tests.pace.states import MAX_WAIT, turn

SEED = {"x-ratelimit-limit-requests": "10", "x-ratelimit-remaining-requests": "3"}


@pytest.mark.parametrize("headers", [{}, {"x-ratelimit-remaining": "3"}, {"x-ratelimit-reset": "1s"}])
def test_incomplete_headers_give_no_reading(headers: dict[str, str]) -> None:
    assert read_limit(headers, 1.8e9, 1.8e9) == (None, None)


@pytest.mark.parametrize(("date", "expected"), [(None, 105.0), (104, 105.0), (99, 99), (50, 50), (130, 130)])
def test_the_date_header_decides_where_it_differs_from_the_local_clock(date: float | None, expected: float) -> None:
    headers = {} if date is None else {"date": _date(date)}
    assert server_time(headers, 100.0, 105.0) == expected


@pytest.mark.parametrize(
    ("policy", "quota", "expected"),
    [
        ('"a";q=10;w=60', '"a";r=3;t=7', (10, 3, 7.0, 59.0)),
        ('"a";q=10;w=60, "b";q=9;w=5', '"a";r=9;t=7, "b"; r=1; t=2', (9, 1, 2.0, 4.0)),
        ('"a";q=10;qu="requests";w=60', '"a";r=3;t=7', (10, 3, 7.0, 59.0)),
        ('"a";q=10;w=60, "b";q=9999;qu="tokens";w=60', '"b";r=1;t=7, "a";r=3;t=7', (10, 3, 7.0, 59.0)),
        ("", '"a";r=3;t=7', (0, 3, 7.0, 6.0)),
        ('"a";q=10', '"a";r=3;t=7', (10, 3, 7.0, 6.0)),
        ('"a";q=10;w=60', '"a";r=3', (10, 3, 60.0, 59.0)),
        ('"a";q=10', '"a";r=3', None),
        ('"a";q=10;qu="tokens";w=60', '"a";r=3;t=7', None),
        ('"a";q=ten;w=60', '"a";r=three;t=7', None),
    ],
)
def test_a_policy_gives_limit_and_window(policy: str, quota: str, expected: Any) -> None:
    reading, _ = read_limit({"ratelimit-policy": policy, "ratelimit": quota}, 1.8e9, 1.8e9)
    assert (reading and (reading.limit, reading.remaining, reading.reset_latest, reading.window_above)) == expected


def test_token_quotas_are_ignored() -> None:
    tokens = {f"x-ratelimit-{part}-tokens": "1" for part in ("limit", "remaining", "reset")}
    assert read_limit(tokens, 1.8e9, 1.8e9) == (None, None)
    reading, _ = read_limit(tokens | SEED | {"x-ratelimit-reset-requests": "1s"}, 1.8e9, 1.8e9)
    assert reading is not None
    assert reading.limit == 10


@pytest.mark.parametrize(
    ("reset", "soonest", "latest"),
    [("1s", 0.999, 1.0), ("7", 6.0, 7.0), ("1800000007", 6.0, 7.0), ("12ms", 0.011, 0.012)],
)
def test_the_precision_of_a_reset_depends_on_its_format(reset: str, soonest: float, latest: float) -> None:
    reading, _ = read_limit(SEED | {"x-ratelimit-reset-requests": reset}, 1.8e9, 1.8e9)
    assert reading is not None
    assert (reading.reset_earliest, reading.reset_latest) == pytest.approx((soonest, latest))


@given(
    ahead=st.floats(-1000, 1000),
    arrivals=st.lists(st.floats(0, 10), min_size=1, max_size=10),
    stale=st.floats(0, 1),
    way=st.floats(0, 5),
)
@example(ahead=-0.9, arrivals=[0.0], stale=0.0, way=0.0)
def test_the_reset_lies_within_its_bounds_whatever_the_clock_offset(
    ahead: float, arrivals: list[float], stale: float, way: float
) -> None:
    learned: Any = None
    for received in sorted(arrivals):
        now = 1.8e9 + received
        server_now = now + ahead
        ends = int(server_now) + 30
        headers = SEED | {"x-ratelimit-reset-requests": str(ends), "date": _date(server_now - stale)}
        reading, learned = read_limit(headers, now - way, now, learned)
        assert reading is not None
        assert reading.reset_earliest - 1e-5 <= ends - server_now <= reading.reset_latest + 1e-5


def _date(moment: float) -> str:

    return formatdate(int(moment), usegmt=True)


_NUMBERS = st.sampled_from(
    (
        *("", "0", "-1", "1", "5", "9" * 18, "9" * 60, "9" * 300, "0.5", "nan", "inf", "1e9", " 3 ", "3, 4", "\u0661"),
        *("1795341304", "1000000000", "1795341304000", "0s", "12ms", "6m0s", "999999999999999h"),
    )
)


_DATES = st.sampled_from(["", "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "x", "Sun Nov"])


_NAMES = ["limit", "remaining", "reset"]


@st.composite
def _nonsense(draw: st.DrawFn) -> dict[str, str]:
    headers = {f"x-ratelimit-{name}-requests": draw(_NUMBERS) for name in _NAMES if draw(st.booleans())}
    headers |= {f"x-ratelimit-{name}": draw(_NUMBERS) for name in _NAMES if draw(st.booleans())}
    if draw(st.booleans()):
        q, w, r, t = (draw(_NUMBERS) for _ in range(4))
        headers |= {"ratelimit-policy": f'"a";q={q};w={w}', "ratelimit": f'"a";r={r};t={t}'}
    return {**headers, "date": draw(_DATES)}


@given(st.lists(st.tuples(_nonsense(), st.sampled_from([0.0, 0.01, 3.0, 70.0]), st.booleans()), max_size=12))
def test_arbitrary_headers_never_stop_all_requests_and_never_grow_the_state(
    responses: list[tuple[dict[str, str], float, bool]],
) -> None:
    state, now, ahead = PaceState(patience=5.0), 0.0, None
    for headers, took, lost in responses:
        waited = 0.0
        while (attempt := turn(state, now))[1] is None:
            assert attempt[0] > 0
            now += attempt[0]
            waited += attempt[0]
            assert waited < 4 * MAX_WAIT
        sent, now = now, now + took
        reading, ahead = read_limit(headers, 1.8e9 + sent, 1.8e9 + now, ahead)
        if lost:
            state.fail(attempt[1], now=now)
        else:
            state.finish(attempt[1], now=now, reading=reading)
        state = load(dump(state))
    assert len(state.estimates) <= 8
    assert len(dump(state)) < 8000
