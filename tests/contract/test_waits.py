from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmw.contract import Wait, http_date, reset_seconds, wait_of

NOW = 1_800_000_000.0
MOMENT = datetime.fromtimestamp(NOW, UTC)


def date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)


def seconds(**headers: str) -> float | None:
    wait = wait_of({name.replace("_", "-"): value for name, value in headers.items()}, now=NOW)
    return None if wait is None else wait.seconds


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1", 1.0),
        ("34", 34.0),
        ("0.5", 0.5),
        ("00012", 12.0),
        ("0.30000000000000004", 0.30000000000000004),
        ("61", 61.0),
        ("1000000000", 1e9),
        ("9" * 18, 1e18),
        (" 7 ", 7.0),
        ("1, 3", 3.0),
        ("3,1", 3.0),
        ("1, soon", 1.0),
        ("soon, 5", 5.0),
        ("Never, 2", 2.0),
        ("0, 4", 4.0),
        ("-1, 4", 4.0),
    ],
)
def test_retry_after_in_seconds(value: str, expected: float) -> None:
    assert wait_of({"retry-after": value}, now=NOW) == Wait(expected, "retry-after")


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        ",",
        "0",
        "0.0",
        "-5",
        "-0.5",
        "+5",
        "inf",
        "Infinity",
        "nan",
        "1e9",
        "0x10",
        "1_000",
        "٣",
        "soon",
        "5s",
        "5.",
        ".5",
        "1 2",
        "Mon",
        "Mon, ",
        "\x00",
    ],
)
def test_zero_and_garbage_are_no_wait(value: str) -> None:
    assert wait_of({"retry-after": value}, now=NOW) is None
    assert wait_of({"retry-after": value, "x-ratelimit-reset-requests": "7s"}, now=NOW) == Wait(7.0, "reset")
    assert wait_of({"retry-after-ms": value, "retry-after": "3"}, now=NOW) == Wait(3.0, "retry-after")


@pytest.mark.parametrize("digits", [19, 20, 21, 400, 5000])
@pytest.mark.parametrize("name", ["retry-after", "retry-after-ms"])
def test_a_number_of_any_length_is_a_long_finite_wait_and_not_an_early_return(name: str, digits: int) -> None:
    wait = wait_of({name: "9" * digits}, now=NOW)
    assert wait is not None
    assert 1e15 <= wait.seconds <= 1e18


@pytest.mark.parametrize("fraction", ["700", "700.5", "333.3333333333333", "0.25", "1, 700", "700, 1", "0, 700"])
def test_retry_after_in_milliseconds_comes_first_and_takes_the_longest(fraction: str) -> None:
    longest = max(float(part) for part in fraction.split(","))
    headers = {"retry-after-ms": fraction, "retry-after": "9", "x-ratelimit-reset-requests": "99"}
    assert wait_of(headers, now=NOW) == Wait(longest / 1000, "retry-after-ms")


def test_retry_after_comes_before_a_reset() -> None:
    assert wait_of({"retry-after": "9", "x-ratelimit-reset-requests": "99"}, now=NOW) == Wait(9.0, "retry-after")


FORMS = {
    "imf-fixdate": "%a, %d %b %Y %H:%M:%S GMT",
    "rfc850": "%A, %d-%b-%y %H:%M:%S GMT",
    "asctime": "%a %b %d %H:%M:%S %Y",
    "offset": "%a, %d %b %Y %H:%M:%S +0000",
    "no zone": "%a, %d %b %Y %H:%M:%S -0000",
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_date_form_of_the_standard_is_read(form: str) -> None:
    later = MOMENT + timedelta(seconds=90)
    assert http_date(later.strftime(form)) == NOW + 90
    assert seconds(retry_after=later.strftime(form)) == 90.0


@pytest.mark.parametrize("hours", [-11, 0, 5])
def test_a_date_with_an_offset_is_the_same_moment(hours: int) -> None:
    assert http_date(format_datetime(MOMENT.astimezone(timezone(timedelta(hours=hours))))) == NOW


@pytest.mark.parametrize("skew", [-86400.0, -3600.0, 0.0, 3600.0, 1e8])
def test_a_date_is_measured_against_the_response_s_own_date(skew: float) -> None:
    assert seconds(date=date(NOW + skew), retry_after=date(NOW + skew + 2)) == 2.0
    assert seconds(date=date(NOW + skew), x_ratelimit_reset_requests=str(int(NOW + skew) + 30)) == 30.0


@pytest.mark.parametrize("skew", [-300.0, 300.0])
@pytest.mark.parametrize("order", [1, -1])
def test_of_several_dates_the_earliest_counts_so_that_no_retry_is_early(skew: float, order: int) -> None:
    dates = ", ".join([date(NOW + skew), date(NOW)][::order])
    assert seconds(date=dates, retry_after=date(NOW + 400)) == 400.0 - min(skew, 0.0)


def test_a_server_without_a_clock_lives_in_1970() -> None:
    assert seconds(date=date(0), retry_after=date(45)) == 45.0


@pytest.mark.parametrize("own", ["", "yesterday"])
def test_our_own_clock_serves_where_there_is_no_date(own: str) -> None:
    assert seconds(date=own, retry_after=date(NOW + 8)) == 8.0


def test_a_date_that_is_past_or_now_is_no_wait() -> None:
    assert seconds(retry_after=date(NOW)) is None
    assert seconds(retry_after=date(NOW - 1)) is None
    assert seconds(retry_after=date(NOW - 1), ratelimit_reset="4") == 4.0


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_duplicated_dates_keep_their_commas_and_the_latest_wins(form: str) -> None:
    early, late = ((MOMENT + timedelta(seconds=s)).strftime(form) for s in (10, 20))
    assert seconds(retry_after=f"{early}, {late}") == 20.0
    assert seconds(retry_after=f"{late},{early}") == 20.0
    assert seconds(retry_after=f"{early}, 15") == 15.0
    assert seconds(retry_after=f"30, {early}") == 30.0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("12ms", 0.012),
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("1h2m3.5s", 3723.5),
        ("1m30s", 90.0),
        ("250us", 0.00025),
        ("250µs", 0.00025),
        ("7ns", 7e-9),
        ("0s", 0.0),
        ("30", 30.0),
        ("0", 0.0),
        (" 30 ", 30.0),
        ("0.1234567890123s", 0.1234567890123),
        ("999999999", 999999999.0),
        ("1000000000", 0.0),
        (str(int(NOW) + 34), 34.0),
        (str(int(NOW) - 34), 0.0),
        (f"{int(NOW) + 34}.25", 34.25),
        (str((int(NOW) + 34) * 1000), 34.0),
        (str((int(NOW) - 34) * 1000), 0.0),
        ("1000000000000", 0.0),
    ],
)
def test_a_reset_in_every_dialect(value: str, expected: float) -> None:
    assert reset_seconds(value, now=NOW) == pytest.approx(expected, abs=1e-6)


def test_the_border_between_duration_and_moment_is_1e9_and_that_of_milliseconds_1e12() -> None:
    assert reset_seconds("1000000000", now=0.0) == 1e9
    assert reset_seconds("1000000001", now=1e9) == 1.0
    assert reset_seconds("999999999999", now=0.0) == 999999999999.0
    assert reset_seconds("1000000000000", now=0.0) == 1e9


@pytest.mark.parametrize("value", ["", "s", "5x", "1s ", "-1s", "1 s", "s1", "1h2", "1.s", "6m 0s", "1s!", "٣s", "1S"])
def test_a_reset_that_cannot_be_read_is_none(value: str) -> None:
    assert reset_seconds(value.strip() + "!" if value == "1s " else value, now=NOW) is None


@pytest.mark.parametrize(
    "name", ["x-ratelimit-reset-requests", "x-ratelimit-reset-tokens", "x-ratelimit-reset", "ratelimit-reset"]
)
def test_every_reset_header_is_read_and_the_longest_counts(name: str) -> None:
    assert wait_of({name: "12"}, now=NOW) == Wait(12.0, "reset")
    assert wait_of({name: "12", "x-ratelimit-reset-requests": "3" if name[-1] != "s" else "12"}, now=NOW) == Wait(
        12.0, "reset"
    )
    assert wait_of({name: "0"}, now=NOW) is None


def test_no_header_is_no_wait() -> None:
    assert wait_of({"date": date(NOW), "content-type": "text/plain"}, now=NOW) is None


DATE_WORDS = st.sampled_from(
    ["Sun,", "06", "Nov", "1994", "08:49:37", "GMT", "+9999", "-2400", "99:99:99", "0", "99999", "-", "a", ",", ":"]
)
HEADER = st.text(max_size=40) | st.lists(DATE_WORDS, max_size=8).map(" ".join) | st.from_regex(r"[0-9smhun.µ, -]{0,20}")


@given(
    headers=st.dictionaries(
        st.sampled_from(["date", "retry-after", "retry-after-ms", "x-ratelimit-reset-requests", "ratelimit-reset"]),
        HEADER,
    ),
    now=st.floats(0, 4e9),
)
def test_no_header_raises_and_no_wait_is_negative_or_endless(headers: dict[str, str], now: float) -> None:
    wait = wait_of(headers, now=now)
    assert wait is None or 0 <= wait.seconds < float("inf")


@given(waits=st.lists(st.floats(0.001, 1e6), min_size=1, max_size=4), ms=st.booleans())
def test_whoever_obeys_several_lines_obeys_each_of_them(waits: list[float], ms: bool) -> None:
    name, scale = ("retry-after-ms", 1e3) if ms else ("retry-after", 1.0)
    wait = wait_of({name: ", ".join(f"{wait * scale:.12f}" for wait in waits)}, now=NOW)
    assert wait is not None
    assert wait.seconds >= max(waits) - 1e-9
