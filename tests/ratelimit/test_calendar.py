"""Windows of the calendar: days, months and years of UTC, counted exactly on memory and on redis."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from flexmw.errors import ConfigError
from flexmw.kit.store_url import parse
from flexmw.ratelimit import RateLimit
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.ratelimit.calendar import PERIODS, current, period_of
from flexmw.ratelimit.core import SECOND, Rate
from flexmw.ratelimit.rates import parse_rates
from flexmw.ratelimit.stores.memory import MemoryStore
from flexmw.ratelimit.stores.redis import RedisStore
from flexmw.testing import FakeClock
from tests.ratelimit.calls import call, check_of, limited

pytestmark = pytest.mark.anyio
FIXED = ALGORITHMS["fixed-window"]


def at(*moment: int) -> float:
    return datetime(*moment, tzinfo=UTC).timestamp()  # type: ignore[arg-type]


@given(period=st.sampled_from(PERIODS), now=st.floats(0, 253_339_228_799))
def test_periods_follow_each_other_without_a_gap(period: str, now: float) -> None:
    start, end, name = period_of(period, now)
    assert start <= now < end
    assert period_of(period, start) == period_of(period, end - 1) == (start, end, name)
    following = period_of(period, end)
    assert following[0] == end
    assert following[2] > name
    days = (end - start) // 86_400
    assert days in {"day": (1,), "month": (28, 29, 30, 31), "year": (365, 366)}[period]


@pytest.mark.parametrize(
    ("moment", "days"),
    [((2026, 2, 1), 28), ((2028, 2, 29), 29), ((2100, 2, 3), 28), ((2026, 12, 31), 31), ((2026, 4, 30), 30)],
)
def test_a_month_has_its_days(moment: tuple[int, int, int], days: int) -> None:
    rate = current(parse_rates("5/calendar-month")[0], at(*moment))
    assert rate.seconds == days * 86_400
    assert rate.key_suffix == f"5/calendar-month@{moment[0]}-{moment[1]:02d}"


@pytest.mark.parametrize(
    ("text", "name", "limit"),
    [
        ("5/calendar-month", "5/calendar-month", 5),
        ("5 per calendar day", "5/calendar-day", 5),
        ("10/minute; 5/calendar-year", "10/minute 5/calendar-year", 10),
    ],
)
def test_the_notation_is_that_of_other_rates(text: str, name: str, limit: int) -> None:
    rates = parse_rates(text)
    assert " ".join(rate.name for rate in rates) == name
    assert rates[0].limit == limit


@pytest.mark.parametrize(
    "text", ["5/calendar-week", "5/calendar", "1.5/calendar-month", "0/calendar-day", "5/2 calendar-day"]
)
def test_another_period_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="RateLimit"):
        RateLimit(text, strategy="fixed-window")


async def test_a_month_ends_with_the_month_and_not_thirty_days_later() -> None:
    clock = FakeClock(now=at(2028, 2, 29) - 0.5)
    app = limited("2/calendar-month", clock=clock)
    told = [(await call(app)).quota for _ in range(2)]
    assert told == [(2, 1, int(at(2028, 3, 1))), (2, 0, int(at(2028, 3, 1)))]
    refused = await call(app)
    assert (refused.status, refused["retry-after"]) == (429, "86401")
    clock.advance(86_400.4)
    assert (await call(app)).status == 429
    clock.advance(0.2)
    assert (await call(app)).quota == (2, 1, int(at(2028, 4, 1)))


async def test_other_windows_are_checked_beside_it_where_the_strategy_is_fixed() -> None:
    clock = FakeClock(now=at(2026, 11, 30, 23, 59, 30))
    app = limited("3/calendar-month", "2/minute", strategy="fixed-window", headers=("ietf",), clock=clock)
    assert [(await call(app)).status for _ in range(3)] == [200, 200, 429]
    clock.advance(60)
    response = await call(app)
    assert response["ratelimit-policy"] == '"2/minute";q=2;w=60'
    clock.advance(60)
    assert (await call(app)).status == 200
    response = await call(app)
    assert response["ratelimit-policy"] == '"3/calendar-month";q=3;w=2678400'


@pytest.mark.parametrize(
    ("rates", "options"),
    [
        (["5/calendar-month", "2/minute"], {}),
        (["5/calendar-month"], {"strategy": "gcra"}),
        (["5/calendar-month"], {"messages": "5/minute"}),
    ],
)
def test_another_strategy_is_refused(rates: list[str], options: Any) -> None:
    with pytest.raises(ConfigError, match=r"RateLimit\(strategy=...\) = .* expected 'fixed-window'"):
        RateLimit(*rates, **options)


async def test_a_function_may_return_it_where_the_strategy_is_fixed() -> None:
    clock = FakeClock(now=at(2026, 1, 31))
    app = limited(limit=lambda caller: "2/calendar-month", strategy="fixed-window", clock=clock)
    assert (await call(app)).quota == (2, 1, int(at(2026, 2, 1)))
    with pytest.raises(ConfigError, match=r"RateLimit\(limit=...\)"):
        await call(limited(limit=lambda caller: "2/calendar-month", clock=clock))


def test_the_counters_of_past_periods_are_forgotten() -> None:
    clock = FakeClock(now=at(2026, 1, 15))
    store, rates = MemoryStore(FIXED, clock), parse_rates("5/calendar-month")
    for _ in range(12):
        store.decide(check_of("caller", (current(rates[0], clock.now()),)))
        clock.advance(31 * 86_400)
    assert len(store._calendar) <= 2


steps = st.lists(
    st.tuples(st.sampled_from(["ask", "look", "settle"]), st.integers(-5, 5), st.sampled_from([0.0, 3600.0, 86_400.0])),
    min_size=1,
    max_size=30,
)


@given(steps=steps)
def test_a_month_admits_its_limit_whatever_is_given_back(steps: list[tuple[str, int, float]]) -> None:
    clock = FakeClock(now=at(2026, 1, 30, 12))
    store, rates = MemoryStore(FIXED, clock), parse_rates("9/calendar-month")
    used: dict[str, int] = {}
    for what, amount, gap in steps:
        clock.advance(gap)
        rate = current(rates[0], clock.now())
        count = used.get(rate.key_suffix, 0)
        if what == "settle":
            store.refund(check_of("caller", (rate,), amount), 0)
            used[rate.key_suffix] = max(0, count - amount)
        else:
            result = store.decide(check_of("caller", (rate,), abs(amount), take=what == "ask"))
            assert (result.wait_us > 0) == (count + abs(amount) > 9)
            assert result.rate == rate
            if what == "ask" and not result.wait_us:
                used[rate.key_suffix] = count + abs(amount)
            assert result.remaining == max(0, 9 - used.get(rate.key_suffix, 0))
            assert result.reset_us == rate.ends_at_us - int(clock.now() * SECOND)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_redis_counts_a_month_by_its_end(redis_url: str, anyio_backend: str) -> None:
    store = RedisStore(FIXED, parse(redis_url, "storage"))
    now = time.time()
    rate = current(parse_rates("5/calendar-month", prefix="p")[0], now)
    minute = parse_rates("9/minute", prefix="p")[0]
    left_us = rate.ends_at_us - int(now * SECOND)
    try:
        results = await asyncio.gather(*(store.decide(check_of("caller", (rate, minute))) for _ in range(8)))
        assert sorted(result.wait_us > 0 for result in results) == [False] * 5 + [True] * 3
        for result in results:
            assert result.rate == rate
            assert abs(result.reset_us - left_us) < 60 * SECOND
        await store.refund(check_of("caller", (rate,), 2), 3 * 86_400 * SECOND)  # whatever the age
        looked = await store.decide(check_of("caller", (rate,), 0, take=False))
        assert looked.remaining == 2
        await store.refund(check_of("caller", (rate,), -4), 0)
        assert (await store.decide(check_of("caller", (rate,), 1))).wait_us > left_us - 60 * SECOND
    finally:
        await store.close()
    with redis.Redis.from_url(redis_url) as server:
        key = f"LIMITS:{rate.key('caller', 'fixed-window')}"
        assert server.get(key) == b"7"
        assert (
            abs(server.pexpiretime(key) - rate.ends_at_us // 1000 - 86_400_000) < 2 if _has_expiretime(server) else True
        )


def _has_expiretime(server: redis.Redis) -> bool:
    return tuple(map(int, server.info("server")["redis_version"].split(".")[:2])) >= (7, 0)


def test_a_rate_that_is_none_of_the_calendar_stays_as_it_is() -> None:
    rate: Rate = parse_rates("5/day")[0]
    assert current(rate, at(2026, 1, 1)) is rate
