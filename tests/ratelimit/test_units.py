from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from math import inf
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limits import parse
from limits.storage import storage_from_string
from limits.strategies import STRATEGIES as LIMITS_STRATEGIES
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

import flexmw
from flexmw.errors import ConfigError, RateLimitExceeded
from flexmw.kit.store_url import parse as parse_url
from flexmw.ratelimit import RateLimit, settle
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.ratelimit.algorithms.windows import admit, result_of
from flexmw.ratelimit.core import LimitResult, Slot, with_slot
from flexmw.ratelimit.cost import Charge, Pricing
from flexmw.ratelimit.headers import Reporter
from flexmw.ratelimit.rates import parse_rates
from flexmw.ratelimit.stores.memory import MemoryStore
from flexmw.ratelimit.stores.redis import RedisStore
from flexmw.testing import FakeClock
from tests.ratelimit.calls import Answer, Make, answering, ask, awaited, call, check_of, limiters, scope_of
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio
NAMES = sorted(ALGORITHMS)
UNITS = ("requests", "tokens")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(now=1_800_000_000.25)


def both(requests: str = "5/day", tokens: str = "100/day") -> Any:
    return parse_rates(requests) + parse_rates(tokens, unit="tokens")


def numbers(answer: Answer, unit: str) -> tuple[int, int]:
    return int(answer[f"x-ratelimit-limit-{unit}"]), int(answer[f"x-ratelimit-remaining-{unit}"])


def using(tokens: int, status: int = 200) -> ASGIApp:
    async def model(scope: Scope, receive: Receive, send: Send) -> None:
        settle(tokens)
        await answering(status)(scope, receive, send)

    return model


# --- the core ---------------------------------------------------------------------------------------------------------


@given(
    name=st.sampled_from(NAMES),
    limits=st.tuples(st.integers(1, 12), st.integers(1, 200)),
    costs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60)), max_size=40),
)
def test_a_refusal_in_one_unit_takes_nothing_from_any_unit(
    name: str, limits: tuple[int, int], costs: list[tuple[int, int]]
) -> None:
    strategy, rates = ALGORITHMS[name], both(f"{limits[0]}/day", f"{limits[1]}/day")
    states: Any = [None, None]
    left = list(limits)
    for cost in costs:
        admitted, states = admit(strategy, rates, states, 7, cost)
        fits = all(each <= room for each, room in zip(cost, left, strict=True))
        assert admitted == fits
        if fits:
            left = [room - each for each, room in zip(cost, left, strict=True)]
        said = result_of(strategy, rates, states, 7, cost, admitted)
        told = {each.rate.unit: each for each in (said, *said.others)}
        assert [told[unit].remaining for unit in UNITS] == left
        for unit, each, room in zip(UNITS, cost, left, strict=True):
            assert (told[unit].wait_us > 0) == (not fits and each > room)
        assert said.wait_us == max(each.wait_us for each in told.values())


def test_each_unit_reports_its_tightest_window_and_the_longest_wait_comes_first() -> None:
    strategy = ALGORITHMS["fixed-window"]
    rates = parse_rates(["10/minute", "20/day"]) + parse_rates(["100/minute", "1000/day"], unit="tokens")
    admitted, states = admit(strategy, rates, [None] * 4, 0, (1, 1, 90, 90))
    said = result_of(strategy, rates, states, 0, (1, 1, 90, 90), admitted)
    assert [each.rate.name for each in (said, *said.others)] == ["100 tokens/minute", "10/minute"]
    denied = result_of(strategy, rates, [(60_000_000, 10), (9e7, 20), (60_000_000, 95), None], 0, (1, 1, 6, 6), False)
    assert (denied.rate.name, denied.wait_us) == ("20/day", 90_000_000)
    assert [(each.rate.name, each.wait_us) for each in denied.others] == [("100 tokens/minute", 60_000_000)]


def test_a_refusal_that_is_over_by_the_numbers_of_the_reply_waits_one_microsecond() -> None:
    said = result_of(ALGORITHMS["fixed-window"], parse_rates("2/minute"), [None], 0, (1,), admitted=False)
    assert (said.wait_us, said.reset_us) == (1, 1)


def test_one_number_is_the_cost_in_every_rate_and_tokens_have_a_cost_of_their_own() -> None:
    async def charged(pricing: Pricing) -> Charge:
        return await pricing.charge(scope_of(), both())

    assert asyncio.run(charged(Pricing(3))).costs == (3, 3)
    assert asyncio.run(charged(Pricing(1, 40))).costs == (1, 40)


def test_a_refusal_by_rates_comes_before_a_refusal_by_slots() -> None:
    slot, (rate,) = Slot("holder", 3, 60_000_000), parse_rates("9/minute")
    free, refused = LimitResult(rate, 8, 0, 5), LimitResult(rate, 0, 7, 7)
    assert with_slot(slot, 1, False, free) is free
    assert with_slot(slot, 3, True, refused) is refused
    alone = with_slot(slot, 1, False, None)
    assert (alone.rate.name, alone.remaining, alone.wait_us) == ("3 at once", 2, 0)
    full = with_slot(slot, 3, True, free)
    assert (full.rate.name, full.remaining, full.wait_us, full.others) == ("3 at once", 0, 1_000_000, (free,))
    assert with_slot(slot, 3, True, None).others == ()


# --- counters ---------------------------------------------------------------------------------------------------------


def test_units_groups_and_amounts_never_share_a_counter() -> None:
    tails = [
        each.key_suffix
        for unit in UNITS
        for group in ("", "/v1", "POST /v1", "*", "/tokens")
        for each in parse_rates(["10/minute", "11/minute ", "10/day"][::2], group=group, unit=unit)
    ]
    assert len(set(tails)) == len(tails)
    item = parse("100/minute")
    assert parse_rates("100/minute", unit="tokens")[0].key("d", "gcra") == item.key_for("{d}", "gcra", "tokens")


@pytest.mark.parametrize("strategy", sorted(LIMITS_STRATEGIES))
def test_limits_itself_agrees_on_the_tokens(redis_url: str, strategy: str) -> None:
    theirs = LIMITS_STRATEGIES[strategy](storage_from_string(redis_url))

    async def used() -> None:
        store = RedisStore(ALGORITHMS[strategy], parse_url(redis_url, "storage"))
        for _ in range(3):
            await store.decide(check_of("digest", both(), (1, 20)))
        await store.close()

    asyncio.run(used())
    left = [theirs.get_window_stats(parse("5/day"), "{digest}", strategy).remaining]
    left += [theirs.get_window_stats(parse("100/day"), "{digest}", strategy, "tokens").remaining]
    assert left == [2, 40]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 2), st.integers(0, 45), st.booleans()),
        st.tuples(st.just("look"), st.integers(0, 2), st.integers(0, 45), st.booleans()),
        st.tuples(st.just("settle"), st.integers(-30, 30), st.just(0), st.just(False)),
        st.tuples(st.just("release"), st.integers(0, 9), st.just(0), st.just(False)),
    ),
    min_size=1,
    max_size=25,
)


@pytest.mark.parametrize("strategy", NAMES)
def test_memory_and_redis_decide_alike_in_every_unit_and_about_slots(redis_url: str, strategy: str) -> None:
    callers = iter(range(1_000_000))

    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(steps=steps, limits=st.tuples(st.integers(1, 9), st.integers(1, 150)), most=st.integers(1, 4))
    def alike(steps: list[tuple[str, int, int, bool]], limits: tuple[int, int], most: int) -> None:
        asyncio.run(compare(f"caller {next(callers)}", steps, both(f"{limits[0]}/day", f"{limits[1]}/day"), most))

    async def compare(digest: str, steps: Any, rates: Any, most: int) -> None:
        store, memory = (
            RedisStore(ALGORITHMS[strategy], parse_url(redis_url, "storage")),
            MemoryStore(ALGORITHMS[strategy]),
        )
        held: list[Slot] = []
        try:
            for number, (what, first, second, seated) in enumerate(steps):
                if what == "settle":
                    for one in (store, memory):
                        await awaited(one.refund(check_of(digest, rates[1:], first)))
                elif what == "release":
                    if held:
                        slot = held.pop(first % len(held))
                        for one in (store, memory):
                            await awaited(one.release(digest, slot))
                else:
                    slot = Slot(f"holder {number}", most, 60_000_000) if seated else None  # type: ignore[assignment]
                    check = check_of(digest, rates, (first, second), take=what == "ask", slot=slot)
                    theirs, ours = [await awaited(one.decide(check)) for one in (store, memory)]
                    assert shape(theirs) == shape(ours)
                    assert abs(theirs.wait_us - ours.wait_us) < 30_000_000
                    if seated and what == "ask" and not ours.wait_us:
                        held.append(slot)
                        assert len(held) <= most
        finally:
            await store.close()

    def shape(said: LimitResult) -> Any:
        return sorted((each.rate.name, each.remaining, each.wait_us > 0) for each in (said, *said.others))

    alike()


# --- the limiter ------------------------------------------------------------------------------------------------------


def limited(*rates: Any, app: ASGIApp | None = None, **options: Any) -> ASGIApp:
    return RateLimit(*rates, **options).asgi(app or answering())


@pytest.mark.parametrize("strategy", NAMES)
async def test_requests_and_tokens_are_decided_together_and_both_are_reported(strategy: str, clock: FakeClock) -> None:
    app = limited("5/day", tokens="100/day", token_cost=40, strategy=strategy, clock=clock)
    told = []
    for _ in range(4):
        answer = await call(app)
        told.append((answer.status, numbers(answer, "requests"), numbers(answer, "tokens")))
    assert told == [
        (200, (5, 4), (100, 60)),
        (200, (5, 3), (100, 20)),
        (429, (5, 3), (100, 20)),
        (429, (5, 3), (100, 20)),
    ]


async def test_the_wait_is_that_of_the_unit_which_denies_and_whoever_obeys_it_passes(clock: FakeClock) -> None:
    app = limited("5/hour", tokens="100/minute", token_cost=80, strategy="fixed-window", clock=clock)
    await call(app)
    clock.advance(10)
    refused = await call(app)
    assert (refused.status, refused["retry-after"]) == (429, "50")
    assert refused["x-ratelimit-reset-tokens"] == "1800000061"
    assert refused["x-ratelimit-reset-requests"] == "1800003601"
    clock.advance(int(refused["retry-after-ms"]) / 1000)
    assert (await call(app)).status == 200


async def test_settling_corrects_the_tokens_and_not_the_requests(clock: FakeClock) -> None:
    app = limited("9/day", tokens="100/day", token_cost=lambda scope: 60, clock=clock, app=using(10))
    told = []
    for _ in range(3):
        answer = await call(app)
        told.append((answer.status, numbers(answer, "requests")[1], numbers(answer, "tokens")[1]))
    assert told == [(200, 8, 40), (200, 7, 30), (200, 6, 20)]
    app = limited("9/day", tokens="100/day", token_cost=10, clock=clock, app=using(95))
    assert [(await call(app)).status for _ in range(2)] == [200, 429]


async def test_an_estimate_may_be_awaited_and_has_to_be_a_number(clock: FakeClock) -> None:
    async def estimated(scope: Scope) -> Any:
        return scope["tokens"]

    app = limited(tokens="100/day", token_cost=estimated, clock=clock)
    assert numbers(await call(app, tokens=30), "tokens") == (100, 70)
    for bad in (-1, "many", None, True):
        with pytest.raises(ConfigError, match=r"RateLimit\(token_cost=\.\.\.\)"):
            await call(app, tokens=bad)


async def test_tokens_alone_limit_and_leave_requests_alone(clock: FakeClock) -> None:
    app = limited(tokens=["100/minute", "150/day"], token_cost=50, clock=clock)
    answers = [await call(app) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert not any("x-ratelimit-limit-requests" in answer for answer in answers)


async def test_tokens_depend_on_the_caller_or_on_the_path(clock: FakeClock) -> None:
    tiers: dict[str, Any] = {"sk-1": "100/day", "sk-2": None}
    app = limited("9/day", tokens=lambda caller: tiers[caller.value], token_cost=50, clock=clock)
    assert numbers(await call(app), "tokens") == (100, 50)
    assert "x-ratelimit-limit-tokens" not in await call(app, "sk-2")
    tiers["sk-1"] = "200/day"
    assert numbers(await call(app), "tokens") == (200, 100)
    app = limited("9/day", tokens={"/chat": "100/day"}, token_cost=50, clock=clock)
    assert numbers(await call(app, path="/chat"), "tokens") == (100, 50)
    assert "x-ratelimit-limit-tokens" not in await call(app, path="/models")


async def test_a_request_without_rates_passes(clock: FakeClock) -> None:
    app = limited(tokens={"/chat": "100/day"}, token_cost=50, clock=clock)
    scope = scope_of()
    assert (await ask(app, scope)).status == 200
    assert scope["flexmw"].facts == {"flexmw.rate_limiting.result": "bypassed"}
    explained: Any = app
    assert await explained.explain(scope_of()) is None


async def test_every_header_style_reports_both_units(clock: FakeClock) -> None:
    options: Any = {"tokens": "1000/minute", "token_cost": 100, "clock": clock}
    answer = await call(limited("60/minute", headers=("ietf",), **options))
    assert answer["ratelimit-policy"] == '"1000 tokens/minute";q=1000;qu="tokens";w=60, "60/minute";q=60;w=60'
    assert answer["ratelimit"] == '"1000 tokens/minute";r=900;t=60, "60/minute";r=59;t=60'
    answer = await call(limited("60/minute", headers=("openai",), **options))
    assert (answer["x-ratelimit-reset-tokens"], answer["x-ratelimit-reset-requests"]) == ("1m0s", "1m0s")


async def test_explain_and_shadow_cover_every_unit(clock: FakeClock) -> None:
    app: Any = limited("9/day", tokens="100/day", token_cost=60, clock=clock, shadow=True)
    await call(app)
    seen = await app.explain(scope_of())
    assert (seen.allowed, seen.unit, seen.remaining) == (False, "tokens", 40)
    assert [(other.unit, other.remaining) for other in seen.others] == [("requests", 8)]
    answer = await call(app)
    assert (answer.status, numbers(answer, "tokens"), "retry-after" in answer) == (200, (100, 40), False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tokens": "lots"}, r"RateLimit\(tokens=...\) = 'lots'"),
        ({"tokens": 7}, r"RateLimit\(tokens=...\) = 7"),
        ({"tokens": "100/day", "token_cost": 101}, "at most the smallest limit, 100"),
        ({"tokens": "100/day", "token_cost": -1}, "at least 0"),
        ({"token_cost": 5}, "tokens=, the rates"),
    ],
)
def test_tokens_that_cannot_work_are_refused(options: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        RateLimit("5/day", **options)


# --- one command ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def shared(redis_url: str) -> AsyncGenerator[Make]:
    async with limiters(storage=redis_url, store_timeout=LONGEST_WAIT) as make:
        yield make


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("strategy", NAMES)
async def test_all_windows_of_all_units_take_one_command_and_settling_one_more(
    shared: Make, redis_url: str, strategy: str
) -> None:
    options: Any = {"tokens": ["100/minute", "5000/day"], "token_cost": 60, "strategy": strategy}
    app = shared("50/minute", "60/hour", app=using(10), **options)
    await call(app, "warm")
    with redis.Redis.from_url(redis_url) as server, server.monitor() as monitor:
        told = []
        for _ in range(4):
            answer = await call(app)
            told.append((answer.status, numbers(answer, "requests")[1], numbers(answer, "tokens")[1]))
        server.execute_command("PING")
        commands = []
        for entry in monitor.listen():
            if entry["command"].startswith("PING"):
                break
            if entry["client_type"] != "lua" and entry["command"].startswith("EVAL"):
                commands.append(entry["command"].split()[0])
    assert told == [(200, 49, 40), (200, 48, 30), (200, 47, 20), (200, 46, 10)]
    assert commands == ["EVALSHA"] * 8
    assert [(await call(app)).status for _ in range(2)] == [200, 429]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_refusal_for_tokens_is_not_cached_because_others_may_refund(shared: Make) -> None:
    entered, go = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        entered.set()
        await go.wait()
        settle(0)
        await answering()(scope, receive, send)

    one, other = (shared("50/day", tokens="100/day", token_cost=90, app=app) for app in (answering(), slow))
    first = asyncio.create_task(call(other))
    await entered.wait()
    assert (await call(one)).status == 429
    go.set()
    assert (await first).status == 200
    assert (await call(one)).status == 200


# --- a request that is larger than a limit ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("unit", UNITS)
async def test_a_request_that_no_wait_admits_is_told_of_no_wait(
    name: str, unit: str, redis_url: str, anyio_backend: str
) -> None:
    options: dict[str, Any] = {
        "requests": {"cost": lambda scope: 11 if scope["path"] == "/large" else 1},
        "tokens": {"tokens": "10/minute", "token_cost": lambda scope: 11 if scope["path"] == "/large" else 1},
    }[unit]
    for storage in ("memory://", redis_url)[: 2 if anyio_backend == "asyncio" else 1]:
        async with limiters(strategy=name, storage=storage, **options) as make:
            app: Any = make("10/minute")
            explained = await app.explain(scope_of(path="/large"))
            large, small = await call(app, path="/large"), await call(app)
        assert (explained.allowed, explained.retry_after, explained.reset_at) == (False, inf, inf)
        assert (large.status, small.status) == (429, 200)
        assert "retry-after" not in large
        assert "retry-after-ms" not in large
        assert large["x-should-retry"] == "false"
        assert numbers(large, unit) == (10, 10)
        assert large.error["code"] == "rate_limit_exceeded"
        assert large.error["message"] == (
            f"The request is larger than the rate limit: it counts 11 {unit}, and the limit is 10."
        )


async def test_a_limit_of_a_caller_that_is_below_the_cost_of_all_requests_names_no_wait(
    redis_url: str, anyio_backend: str
) -> None:
    for storage in ("memory://", redis_url)[: 2 if anyio_backend == "asyncio" else 1]:
        async with limiters(storage=storage, cost=5, limit=lambda caller: "3/minute") as make:
            refused = await call(make())
        assert (refused.status, refused["x-should-retry"], numbers(refused, "requests")) == (429, "false", (3, 3))
        assert "retry-after" not in refused
        assert "it counts 5 requests, and the limit is 3" in refused.error["message"]


async def test_a_route_refuses_a_request_that_is_larger_than_its_limit() -> None:
    large = RateLimitExceeded(None)
    assert large.headers == {"x-should-retry": "false"}
    assert "{" not in large.message
    limit = flexmw.limit("10/minute", cost=lambda scope: 11)
    with pytest.raises(RateLimitExceeded) as refused:
        await limit(Request(scope_of()))
    assert "retry-after" not in {name.lower() for name in refused.value.headers or ()}


def test_money_is_named_as_it_is_written() -> None:
    rate = parse_rates("2/day", unit="usd")[0]
    check = check_of("digest", (rate,), 2_500_000)
    reporter = Reporter(failure_mode="local", clock=FakeClock(), styles=("unix",), shadow=False, one_unit=False)
    error = reporter.refusal(LimitResult(rate, 2_000_000, 1, 1), 0.0, check)
    assert error is not None
    assert "it counts 2.5 usd, and the limit is 2." in error.message
