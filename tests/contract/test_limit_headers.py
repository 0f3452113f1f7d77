"""The forms in which providers write their limits, one by one and at random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmw.contract import HeaderStyle, Quota, render
from flexmw.contract.limit_headers import FORMS, LimitReading, read_limits, reset_wait, tightest
from flexmw.contract.resets import Reset, reset_of
from scripts.limit_headers_page import page

NOW = 1_800_000_000.0


@pytest.mark.parametrize("form", FORMS, ids=[form.name for form in FORMS])
def test_the_example_of_each_form_is_read_whole(form: Any) -> None:
    (reading,) = read_limits(dict(form.example), now=NOW - 1000)
    assert None not in (reading.limit, reading.remaining, reading.reset)
    assert reading.unit == (form.unit or "requests")


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"ratelimit": '"api";r=0;t=55'}, 55.0),
        ({"ratelimit": '"a";r=4;t=9, "b";r=0;t=3'}, 3.0),
        ({"ratelimit": '"a";t=9'}, None),
        ({"ratelimit": "remaining=x, reset=y"}, None),
        ({"ratelimit-user-limit": "5", "ratelimit-used": "5"}, None),
        ({"ratelimit": f'"a";pk=:{"A" * 200}:;r=0;t=7'}, 7.0),
        ({"ratelimit": '"default";r=0;t=3;pk=:cHsdsRa894==:'}, 3.0),
        ({"ratelimit": "limit=5, remaining=0, reset=3"}, 3.0),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "12"}, 12.0),
        ({"ratelimit-remaining": "0", "ratelimit-reset": str(int(NOW) + 60)}, 60.0),
        ({"x-rate-limit-remaining": "0", "x-rate-limit-reset": str(int(NOW) + 9)}, 9.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1800000004000"}, 4.0),
        ({"x-ratelimit-remaining": "0.0", "x-ratelimit-reset": "598"}, 598.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "2027-01-15T08:00:07.000Z"}, 7.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset-after": "0.5", "x-ratelimit-reset": "1800000004"}, 0.5),
        ({"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": "2027-01-15T08:00:30Z"}, 30),
        ({"anthropic-ratelimit-input-tokens-reset": "2027-01-15T09:00:00+01:00"}, None),
        ({"x-ratelimit-remaining-req-minute": "0", "x-ratelimit-reset-req-minute": "20"}, 20.0),
        ({"x-ratelimit-reset-requests": "1m30.5s"}, 90.5),
        ({"x-ratelimit-reset": "4, 9"}, 9.0),
        ({"x-ratelimit-reset": "Fri, 15 Jan 2027 08:00:05 GMT"}, 5.0),
    ],
)
def test_a_refusal_waits_for_the_limit_that_is_used_up(headers: dict[str, str], wait: float | None) -> None:
    assert reset_wait(read_limits(headers, now=NOW)) == (None if wait is None else pytest.approx(wait))


def test_of_several_limits_the_one_that_is_used_up_decides() -> None:
    headers = {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-remaining-tokens": "149984",
        "x-ratelimit-reset-tokens": "6m0s",
    }
    assert reset_wait(read_limits(headers, now=NOW)) == 1.0
    assert reset_wait(read_limits({**headers, "x-ratelimit-remaining-requests": "3"}, now=NOW)) == 360.0
    assert reset_wait(read_limits({**headers, "x-ratelimit-remaining-tokens": "0"}, now=NOW)) == 360.0


@pytest.mark.parametrize("value", ["0", "0s", "1000000001", "2020-01-01T00:00:00Z", "soon", ""])
def test_a_reset_of_zero_in_the_past_or_unreadable_is_no_wait(value: str) -> None:
    headers = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": value}
    assert reset_wait(read_limits(headers, now=NOW)) is None


def test_a_limit_names_its_unit_and_its_window() -> None:
    headers = {
        "x-ratelimit-limit-tokens-minute": "500000",
        "x-ratelimit-remaining-tokens-minute": "12",
        "x-ratelimit-limit-req-day": "9",
        "x-ratelimit-limit-minute": "3",
        "ratelimit-limit": "100;w=21600",
        "ratelimit": '"x";r=1;t=2',
        "ratelimit-policy": '"x";q=7;w=30;qu="tokens"',
    }
    readings = read_limits(headers, now=NOW)
    assert {(reading.dimension, reading.unit, reading.limit, reading.window) for reading in readings} == {
        ("tokens-minute", "tokens", 500000, 60),
        ("req-day", "requests", 9, 86400),
        ("minute", "requests", 3, 60),
        ("", "requests", 100, 21600),
        ("x", "tokens", 7, 30),
    }


@pytest.mark.parametrize(
    ("value", "reset"),
    [
        ("12ms", Reset(0.012, 0.001)),
        ("3", Reset(3.0)),
        ("3.25", Reset(3.25, 0.01)),
        ("1800000002", Reset(2.0, moment=True)),
        ("1800000002500", Reset(2.5, 0.001, moment=True)),
        ("2027-01-15T08:00:02Z", Reset(2.0, moment=True)),
        ("1d2h", Reset(93600.0, 0.001)),
        ("1h 5m", None),
        ("-5", None),
        ("2027-13-45T00:00:00Z", None),
    ],
)
def test_a_reset_is_read_with_its_resolution(value: str, reset: Reset | None) -> None:
    assert reset_of(value, now=NOW) == reset


def test_headers_without_a_limit_describe_none() -> None:
    others = {
        "x-ratelimit-resource": "core",
        "ratelimit-policy": '"a";q=1',
        "x-ratelimit-used": "3",
        "content-length": "1",
        "x-upload-limit": "5",
    }
    assert read_limits(others, now=NOW) == ()
    assert read_limits({"x-ratelimit-limit": "x", "x-ratelimit-remaining": "-1"}, now=NOW) == ()
    assert read_limits({"x-ratelimit-remaining": "9" * 5000}, now=NOW) == ()
    assert tightest(()) is None
    assert reset_wait(()) is None


def test_the_tightest_limit_has_the_smallest_share_left() -> None:
    wide, narrow = LimitReading("a", limit=100, remaining=50), LimitReading("b", limit=10, remaining=1)
    assert tightest([wide, narrow, LimitReading("c", limit=1)]) is narrow


def test_of_two_limits_that_are_used_up_the_later_reset_counts() -> None:
    """A client that waits for the reset of the second only is refused by the one of the day."""
    names = {"second": "1s", "day": "3h0m0s"}
    headers = {f"x-ratelimit-remaining-requests-{name}": "0" for name in names}
    readings = read_limits({**headers, **{f"x-ratelimit-reset-requests-{n}": r for n, r in names.items()}}, now=NOW)
    for order in (readings, readings[::-1]):
        assert (tightest(order) or order[0]).reset_after == 10_800.0 == reset_wait(order)
    windows = LimitReading("a", remaining=0, window=1), LimitReading("b", remaining=0, window=60)
    assert tightest(windows) is windows[1]


@given(
    style=st.sampled_from(["seed", "openai", "ietf"]),
    limit=st.integers(1, 10**9),
    left=st.integers(0, 10**9),
    wait_ms=st.integers(1, 10**7),
)
def test_every_style_that_flexmw_writes_is_read_back(style: HeaderStyle, limit: int, left: int, wait_ms: int) -> None:
    wait = wait_ms / 1e3
    quota = Quota(limit=limit, remaining=min(left, limit), reset_at=NOW + wait, window=60, policy="p")
    headers = {name.lower(): value for name, value in render(quota, now=NOW, styles=[style])}
    (reading,) = read_limits(headers, now=NOW)
    assert (reading.limit, reading.remaining, reading.unit) == (limit, min(left, limit), "requests")
    assert reading.reset is not None
    assert wait - 1e-6 <= reading.reset.after <= wait + reading.reset.resolution + 1e-6


_names = st.sampled_from(
    [
        "ratelimit",
        "ratelimit-policy",
        "x-ratelimit-reset",
        "x-ratelimit-limit-a",
        "anthropic-ratelimit-x-reset",
        "ratelimit-limit",
    ]
)


@given(st.dictionaries(_names, st.text(alphabet='";,=:*rtqwpk0159 aZ\\.-\u00b5sm', max_size=80)))
def test_no_value_raises_and_every_number_is_in_bounds(headers: dict[str, str]) -> None:
    for reading in read_limits(headers, now=NOW):
        assert reading.limit is None or reading.limit >= 0
        assert reading.remaining is None or reading.remaining >= 0
        assert reading.reset_after is None or 0 <= reading.reset_after <= 1e18


def test_the_page_in_the_docs_is_made_from_the_table() -> None:
    written = Path("docs/limit-headers.md").read_text("utf-8")
    assert written == page(), "run: python -m scripts.limit_headers_page > docs/limit-headers.md"


def test_a_limit_of_money_is_used_up_at_0_and_not_before() -> None:
    headers = {
        "x-ratelimit-limit-usd": "50.5",
        "x-ratelimit-remaining-usd": "0.4",
        "x-ratelimit-reset-usd": str(int(NOW) + 1_000_000),
        "x-ratelimit-remaining-requests": "0.4",
        "x-ratelimit-reset-requests": "2s",
    }
    readings = read_limits(headers, now=NOW)
    assert {reading.unit: reading.remaining for reading in readings} == {"usd": 1, "requests": 0}
    assert reset_wait(readings) == 2.0
    used_up = read_limits({**headers, "x-ratelimit-remaining-usd": "0"}, now=NOW)
    assert reset_wait(used_up) == 1_000_000.0
