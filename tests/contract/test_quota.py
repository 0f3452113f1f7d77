from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flexmw.contract import (
    HeaderStyle,
    LimitReading,
    Quota,
    Wait,
    read_limits,
    render,
    reset_seconds,
    retry_headers,
    tightest,
    wait_of,
)

NOW = 1_800_000_000.0
WAITS = st.floats(0, 1e5) | st.integers(0, 10**8).map(lambda ms: ms / 1000)
MOMENTS = st.floats(1.6e9, 2.4e9)
HEADER_STYLES: list[HeaderStyle] = ["unix", "seed", "openai", "ietf"]
TOLERANCE = 1e-6  # of a Unix time held in a float
SOME = st.lists(st.sampled_from(HEADER_STYLES), min_size=1, max_size=3, unique=True)


def lower(pairs: list[tuple[str, str]]) -> dict[str, str]:
    names = [name.lower() for name, _ in pairs]
    assert len(names) == len(set(names)), "no header twice"
    return {name.lower(): value for name, value in pairs}


def read(headers: dict[str, str], *, now: float) -> LimitReading | None:
    return tightest(read_limits(headers, now=now))


def parts(reading: LimitReading | None) -> tuple[int | None, int | None, float | None] | None:
    return None if reading is None else (reading.limit, reading.remaining, reading.reset_after)


def quota(wait: float | None = None, *, remaining: int = 0, reset_at: float = NOW + 34.2) -> Quota:
    return Quota(limit=10, remaining=remaining, reset_at=reset_at, wait=wait, window=60)


@given(wait=WAITS)
def test_whoever_obeys_either_retry_header_never_comes_early_and_hardly_late(wait: float) -> None:
    headers = lower(retry_headers(wait))
    for name, coarse, least in (("retry-after-ms", 0.001, 0.001), ("retry-after", 1.0, 1.0)):
        obeyed = wait_of({name: headers[name]}, now=NOW)
        assert obeyed is not None
        assert obeyed.source == name
        assert obeyed.seconds >= wait - 1e-9
        assert obeyed.seconds <= max(least, wait + 0.001 + coarse)


@given(wait=st.integers(1, 10**9))
def test_a_wait_exact_to_the_millisecond_is_sent_exactly(wait: int) -> None:
    headers = lower(retry_headers(wait / 1000))
    assert headers["retry-after-ms"] == str(wait)
    assert headers["retry-after"] == str(max(1, -(-wait // 1000)))


@pytest.mark.parametrize("wait", [0.0, -3.0, 1e-9])
def test_the_shortest_wait_is_a_second_and_a_millisecond(wait: float) -> None:
    assert retry_headers(wait) == [("Retry-After", "1"), ("retry-after-ms", "1")]


@given(wait=WAITS, now=MOMENTS, styles=SOME, skew=st.floats(-1e6, 1e6))
def test_a_refused_caller_who_obeys_any_single_header_is_never_refused_again(
    wait: float, now: float, styles: list[HeaderStyle], skew: float
) -> None:
    answer = Quota(limit=10, remaining=0, reset_at=now + wait + 1000, wait=wait, window=60)
    headers = lower(render(answer, now=now, styles=styles))
    for name in ("retry-after-ms", "retry-after", "x-ratelimit-reset-requests"):
        if name in headers:
            obeyed = wait_of({name: headers[name]}, now=now)
            if obeyed is None:
                assert wait < 0.001, "only a reset that has passed already is no wait"
                continue
            assert wait - TOLERANCE <= obeyed.seconds <= max(1.0, wait + 1.002)
    seen = read(headers, now=now)
    assert seen is not None
    assert seen.reset_after is not None
    assert seen.reset_after >= wait - TOLERANCE


@given(after=st.floats(-100, 1e5), now=MOMENTS, style=st.sampled_from(HEADER_STYLES), remaining=st.integers(0, 10**6))
def test_what_is_rendered_on_an_admission_is_read_back(
    after: float, now: float, style: HeaderStyle, remaining: int
) -> None:
    answer = Quota(limit=1000, remaining=remaining, reset_at=now + after, window=60)
    pairs = render(answer, now=now, styles=[style])
    headers = lower(pairs)
    assert "retry-after" not in headers
    seen = read(headers, now=now)
    assert seen is not None
    assert seen.remaining == remaining
    assert seen.limit == 1000
    assert seen.reset_after is not None
    assert max(0.0, after) - TOLERANCE <= seen.reset_after <= max(0.0, after) + 1.002


def test_the_seed_dialect_is_the_page_s_four_headers_and_milliseconds() -> None:
    assert render(quota(34.2), now=NOW + 0.5) == [
        ("Retry-After", "35"),
        ("retry-after-ms", "34200"),
        ("x-ratelimit-limit-requests", "10"),
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", str(int(NOW) + 35)),
    ]


def test_the_openai_dialect_sends_a_duration() -> None:
    assert dict(render(quota(remaining=3, reset_at=NOW + 90), now=NOW, styles=["openai"])) == {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "3",
        "x-ratelimit-reset-requests": "1m30s",
    }


def test_the_ietf_dialect_sends_policy_and_state() -> None:
    answer = Quota(limit=10, remaining=3, reset_at=NOW + 1.5, window=60, policy="minute")
    assert render(answer, now=NOW, styles=["ietf"]) == [
        ("RateLimit-Policy", '"minute";q=10;w=60'),
        ("RateLimit", '"minute";r=3;t=2'),
    ]


def test_each_unit_has_headers_of_its_own_and_the_longest_wait_is_the_one_to_obey() -> None:
    tokens = Quota(limit=100, remaining=20, reset_at=NOW + 9, wait=4.5, window=60, unit="tokens", policy="tpm")
    assert dict(render(quota(), tokens, now=NOW)) == {
        "Retry-After": "5",
        "retry-after-ms": "4500",
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": str(int(NOW) + 35),
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "20",
        "x-ratelimit-reset-tokens": str(int(NOW) + 5),
    }
    assert dict(render(quota(40.0), tokens, now=NOW))["retry-after-ms"] == "40000"
    assert render(quota(), tokens, now=NOW, styles=["ietf"])[-2:] == [
        ("RateLimit-Policy", '"requests";q=10;w=60, "tpm";q=100;qu="tokens";w=60'),
        ("RateLimit", '"requests";r=0;t=35, "tpm";r=20;t=5'),
    ]
    seen = read(lower(render(quota(remaining=9), tokens, now=NOW)), now=NOW)
    assert parts(seen) == (100, 20, 5.0)


def test_requests_at_once_are_reported_as_requests_where_nothing_else_counts_them() -> None:
    at_once = Quota(limit=3, remaining=0, reset_at=NOW, wait=1.0, window=0, unit="concurrent-requests", policy="3")
    alone, beside = dict(render(at_once, now=NOW)), dict(render(at_once, quota(), now=NOW))
    assert (alone["x-ratelimit-limit-requests"], alone["Retry-After"]) == ("3", "1")
    assert (beside["x-ratelimit-limit-requests"], beside["Retry-After"]) == ("10", "1")
    assert dict(render(at_once, now=NOW, styles=["ietf"]))["RateLimit-Policy"] == '"3";q=3;qu="concurrent-requests"'


def test_where_two_dialects_claim_a_name_the_first_wins() -> None:
    first = dict(render(quota(1.5), now=NOW, styles=["openai", "seed", "ietf"]))
    assert first["x-ratelimit-reset-requests"] == "1.5s"
    assert list(first)[-2:] == ["RateLimit-Policy", "RateLimit"]
    assert dict(render(quota(1.5), now=NOW, styles=["seed", "openai"]))["x-ratelimit-reset-requests"] == str(
        int(NOW) + 2
    )


def test_a_reset_that_is_past_is_now() -> None:
    assert dict(render(quota(reset_at=NOW - 5), now=NOW))["x-ratelimit-reset-requests"] == str(int(NOW))
    assert dict(render(quota(reset_at=NOW - 5), now=NOW, styles=["openai"]))["x-ratelimit-reset-requests"] == "0ms"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0ms"),
        (0.0001, "1ms"),
        (0.012, "12ms"),
        (0.999, "999ms"),
        (0.9991, "1s"),
        (1.0, "1s"),
        (1.5, "1.5s"),
        (1.05, "1.05s"),
        (10.0, "10s"),
        (59.9999, "1m0s"),
        (60.0, "1m0s"),
        (360.0, "6m0s"),
        (3599.5, "59m59.5s"),
        (3600.0, "1h0m0s"),
        (90061.001, "25h1m1.001s"),
    ],
)
def test_durations_in_go_s_words(seconds: float, text: str) -> None:
    assert dict(render(quota(seconds), now=NOW, styles=["openai"]))["x-ratelimit-reset-requests"] == text


@given(ms=st.integers(0, 10**10))
def test_a_go_duration_is_read_back_to_the_millisecond(ms: int) -> None:
    text = dict(render(quota(ms / 1000), now=NOW, styles=["openai"]))["x-ratelimit-reset-requests"]
    back = reset_seconds(text, now=NOW)
    assert back is not None
    assert round(back * 1000) == ms


@pytest.mark.parametrize("suffix", ["-requests", "-tokens", ""])
def test_every_family_of_counting_headers_is_read(suffix: str) -> None:
    headers = {
        f"x-ratelimit-remaining{suffix}": " 3 ",
        f"x-ratelimit-limit{suffix}": "10",
        f"x-ratelimit-reset{suffix}": "2s",
    }
    assert parts(read(headers, now=NOW)) == (10, 3, 2.0)


def test_the_tightest_quota_counts() -> None:
    headers = {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "5",
        "x-ratelimit-limit-tokens": "40000",
        "x-ratelimit-remaining-tokens": "400",
        "ratelimit": '"a";r=7;t=3, "b";r=0;t=9',
    }
    assert parts(read(headers, now=NOW)) == (None, 0, 9.0)
    del headers["ratelimit"]
    assert parts(read(headers, now=NOW)) == (40000, 400, None)


@pytest.mark.parametrize(
    "value",
    [
        '"default";r=5;t=30',
        '"default"; r=5; t=30',
        '"default";t=30;r=5',
        '"default";pk=:QUJD:;r=5;t=30',
        '"x";w=1, "default";r=5;t=30',
    ],
)
def test_structured_fields_are_read_in_any_order_and_spacing(value: str) -> None:
    assert parts(read({"ratelimit": value}, now=NOW)) == (None, 5, 30.0)


def test_a_structured_field_without_a_reset_has_none() -> None:
    assert parts(read({"ratelimit": '"default";r=5'}, now=NOW)) == (None, 5, None)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-ratelimit-limit-requests": "10", "x-ratelimit-reset-requests": "5s"},
        {"x-ratelimit-remaining-requests": "-1"},
        {"x-ratelimit-remaining-requests": "٣"},
        {"x-ratelimit-remaining-requests": "²"},
        {"x-ratelimit-remaining-requests": "1" * 19},
        {"ratelimit": '"default";t=30'},
    ],
    ids=str,
)
def test_headers_that_say_nothing_give_nothing(headers: dict[str, str]) -> None:
    assert read(headers, now=NOW) is None


def test_eighteen_digits_are_read_and_a_limit_of_zero_divides_nothing() -> None:
    headers = {"x-ratelimit-remaining-requests": "9" * 18, "x-ratelimit-limit-requests": "0"}
    assert parts(read(headers, now=NOW)) == (0, int("9" * 18), None)


@given(
    headers=st.dictionaries(
        st.sampled_from(["ratelimit", "x-ratelimit-remaining", "x-ratelimit-limit", "x-ratelimit-reset"]),
        st.text(max_size=30) | st.from_regex(r'"[a-z;=", 0-9rt]{0,30}'),
    )
)
def test_no_quota_header_raises(headers: dict[str, str]) -> None:
    read(headers, now=NOW)


@given(wait=WAITS, skew=st.integers(-(10**6), 10**6))
def test_a_reset_moment_read_by_the_response_s_date_is_never_early_whatever_our_own_clock_says(
    wait: float, skew: int
) -> None:
    assume(wait >= 0.001)  # a reset that has passed already is no wait
    sent = NOW + skew
    headers = lower(render(quota(wait), now=sent))
    obeyed = wait_of({"x-ratelimit-reset-requests": headers["x-ratelimit-reset-requests"]}, now=math.floor(sent))
    assert obeyed is not None
    assert obeyed == Wait(obeyed.seconds, "reset")
    assert obeyed.seconds >= wait - TOLERANCE
