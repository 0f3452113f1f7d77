"""Limits and budgets in money: what a response has used, priced, and counted exactly in millionths."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from decimal import Decimal
from math import inf
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

import flexmw
from flexmw import SubsystemOffline
from flexmw.kit.exchange import Exchange
from flexmw.ratelimit import Usage, settle
from flexmw.ratelimit.amounts import SCALE, whole_amount
from flexmw.ratelimit.charges import Charges
from flexmw.ratelimit.rates import parse_rates
from flexmw.testing import FakeClock
from tests.app_calls import AppResponse
from tests.ratelimit.calls import Make, ask, call, limited, limiters, scope_of
from tests.ratelimit.test_settlement import JSON, STREAM, asked, sending
from tests.ratelimit.test_usage import WITH_USAGE
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio
PRICES = {"gpt-x": (Decimal("0.0000025"), Decimal("0.00001"))}


def price(model: str, usage: Usage) -> Decimal:
    read, written = PRICES.get(model, (Decimal("0.001"), Decimal("0.002")))
    return usage.input_tokens * read + usage.output_tokens * written


MONEY: Any = {"unit": "usd", "price": price, "usage": "openai"}


def using(read: int, written: int) -> Any:
    usage = {"prompt_tokens": read, "completion_tokens": written}
    return sending(json.dumps({"model": "gpt-x", "usage": usage}).encode())


def money(response: AppResponse) -> tuple[str, str]:
    return response["x-ratelimit-limit-usd"], response["x-ratelimit-remaining-usd"]


async def left(app: Any, key: str = "sk-1") -> Decimal:
    decision = await app.explain(scope_of(key))
    return Decimal(decision.remaining) / SCALE


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), max_size=50))
def test_amounts_of_millionths_are_added_exactly(uses: list[tuple[int, int]]) -> None:
    prices = [Decimal(read) * Decimal("0.000003") + Decimal(written) * Decimal("0.000015") for read, written in uses]
    assert sum(whole_amount(amount, SCALE) for amount in prices) == sum(prices) * SCALE


def test_a_float_is_the_number_that_it_prints_as() -> None:
    assert whole_amount(0.1 + 0.2, SCALE) == 300_000
    assert whole_amount(1e-6, SCALE) == 1
    assert whole_amount(Decimal("0.0000005"), SCALE) == 0


def test_rates_of_money_have_decimals() -> None:
    rates = parse_rates("2.50/day; 20 per calendar-month", unit="usd")
    assert [(rate.name, rate.limit, rate.key_suffix) for rate in rates] == [
        ("2.5 usd/day", 2_500_000, "usd/2500000/1/day"),
        ("20 usd/calendar-month", 20_000_000, "usd/20000000/calendar-month"),
    ]
    for bad in ("2.5000001/day", "-1/day", "2,5/day", "usd"):
        with pytest.raises(flexmw.ConfigError):
            parse_rates(bad, unit="usd")


async def test_a_response_is_charged_its_price_and_the_next_one_is_told() -> None:
    app = limited("0.01/day", **MONEY, app=using(1000, 100), clock=FakeClock())
    assert money(await call(app)) == ("0.01", "0.009999")  # the smallest amount is reserved
    assert await left(app) == Decimal("0.0065")
    assert money(await call(app)) == ("0.01", "0.006499")
    assert [(await call(app)).status for _ in range(2)] == [200, 429]
    assert (await call(app, "sk-2")).status == 200


async def test_a_stream_is_charged_its_price() -> None:
    app = limited("1/day", **MONEY, app=sending(WITH_USAGE, headers=[STREAM]), clock=FakeClock())
    await call(app)
    assert await left(app) == 1 - Decimal("0.000068")  # 67.5 millionths


async def test_the_estimate_is_reserved_at_its_price() -> None:
    app = limited("1/day", **MONEY, cost="openai", app=using(10, 10), clock=FakeClock())
    body = b'{"model": "gpt-x", "prompt": "' + b"x" * 400 + b'", "max_tokens": 1000}'
    assert money(await asked(app, body)) == ("1", "0.98975")
    assert await left(app) == 1 - Decimal("0.000125")


async def test_requests_tokens_and_money_are_checked_by_limiters_around_each_other() -> None:
    clock = FakeClock()
    inner = limited("5/minute", tokens="100000/minute", usage="openai", app=using(1000, 100), clock=clock)
    app = limited("1/day", **MONEY, app=inner, clock=clock)
    response = await call(app)
    assert response["x-ratelimit-remaining-tokens"] == "100000"
    assert {name for name, _ in response.headers if "limit" in name} >= {
        "x-ratelimit-limit-usd",
        "x-ratelimit-limit-tokens",
    }
    assert await left(app) == 1 - Decimal("0.0035")


async def test_tokens_and_money_are_settled_in_one_command() -> None:
    app: Any = limited("1/day", **MONEY, tokens="9000/day", app=using(1000, 100), clock=FakeClock())
    refunds = []
    refund = app.backend.refund

    async def counted(*values: Any, **options: Any) -> None:
        refunds.append(values[0].costs)
        await refund(*values, **options)

    app.backend.refund = counted
    await call(app)
    assert refunds == [(1 - 3500, -1100)]


async def test_a_fixed_price_and_a_reported_amount_work_without_usage() -> None:
    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/reported":
            settle(Decimal("0.25"), unit="usd")
        await sending(b"{}", headers=[JSON])(scope, receive, send)

    app = limited("1/day", unit="usd", cost=0.1, app=handler, clock=FakeClock())
    await call(app)
    assert await left(app) == Decimal("0.9")
    await call(app, path="/reported")
    assert await left(app) == Decimal("0.65")


async def test_a_request_that_nothing_has_priced_costs_nothing() -> None:
    """The smallest amount is reserved, so that a limit that is used up refuses, and is given back."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/paid":
            settle(Decimal("0.25"), unit="usd")
        if scope["path"] == "/broken":
            raise ValueError("out of order")
        await sending(b"{}", headers=[JSON])(scope, receive, send)

    for options in ({"budget": 1}, {"rates": ("1/day",)}):
        app = limited(*options.pop("rates", ()), unit="usd", app=handler, clock=FakeClock(), **options)  # type: ignore[arg-type]
        assert money(await call(app))[1] == "0.999999"
        with pytest.raises(ValueError, match="out of order"):
            await call(app, path="/broken")
        assert await left(app) == 1
        for _ in range(4):
            assert (await call(app, path="/paid")).status == 200
        assert await left(app) == 0
        assert (await call(app)).status in (402, 429)


async def test_money_is_not_settled_by_a_number_of_tokens() -> None:
    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        settle(500)
        await sending(b"{}")(scope, receive, send)

    clock = FakeClock()
    inner = limited(tokens="1000/day", token_cost=100, app=handler, clock=clock)
    app = limited("1/day", unit="usd", cost=0.1, app=inner, clock=clock)
    await call(app)
    assert await left(app) == Decimal("0.9")
    with pytest.raises(flexmw.ConfigError, match=r"RateLimit\(unit='eur'\)"):
        settle(3, unit="eur")


async def test_a_price_that_cannot_be_read_keeps_the_reservation(caplog: pytest.LogCaptureFixture) -> None:
    for broken in (lambda model, usage: -1, lambda model, usage: usage["price"]):
        app = limited("1/day", unit="usd", price=broken, usage="openai", cost=0.5, app=using(1, 1), clock=FakeClock())
        assert (await call(app)).status == 200
        assert await left(app) == Decimal("0.5")
        assert "cannot settle a request" in caplog.text


# --- budgets ----------------------------------------------------------------------------------------------------------


async def test_a_budget_that_is_used_up_is_402_and_other_callers_are_untouched() -> None:
    paid: dict[str, Any] = {"sk-1": "0.01", "sk-2": 5, "sk-3": None}
    clock = FakeClock()
    options = {**MONEY, "budget": lambda caller: paid[caller.value] and Decimal(paid[caller.value])}
    app: Any = limited(**options, app=using(1000, 750), clock=clock)
    first = await call(app)
    assert (first.status, money(first)) == (200, ("0.01", "0.009999"))
    assert "x-ratelimit-reset-usd" not in first
    refused = await call(app)
    assert refused.status == 402
    assert (refused.error["type"], refused.error["code"]) == ("insufficient_quota", "402")
    assert "retry-after" not in refused
    assert refused["x-should-retry"] == "false"
    assert [(await call(app, key)).status for key in ("sk-2", "sk-3")] == [200, 200]
    clock.advance(10 * 365 * 86_400)
    assert (await call(app)).status == 402  # nothing comes back
    assert (await app.explain(scope_of("sk-1"))).retry_after == inf
    paid["sk-1"] = "0.02"  # the caller pays
    assert (await call(app)).status == 200


async def test_a_budget_of_nothing_is_used_up() -> None:
    app = limited(**MONEY, budget=0, app=using(1, 1), clock=FakeClock())
    response = await call(app)
    assert response.status == 402
    assert response["x-ratelimit-limit-usd"] == "0"


async def test_an_async_budget_and_a_fixed_one_work() -> None:
    async def budget(caller: Any) -> float:
        return 0.01

    for given_budget in (budget, Decimal("0.01"), 0.01):
        app = limited(**MONEY, budget=given_budget, app=using(4000, 0), clock=FakeClock())
        assert [(await call(app)).status for _ in range(2)] == [200, 402]


async def test_a_budget_beside_a_month_refuses_by_the_one_that_is_used_up() -> None:
    clock = FakeClock(now=datetime(2026, 5, 31, 12, tzinfo=UTC).timestamp())
    app = limited("0.01/calendar-month", **MONEY, budget=0.03, app=using(4000, 0), clock=clock)
    assert [(await call(app)).status for _ in range(2)] == [200, 429]
    clock.advance(86_400)
    assert [(await call(app)).status for _ in range(2)] == [200, 429]
    clock.advance(30 * 86_400)
    assert [(await call(app)).status for _ in range(2)] == [200, 402]


async def test_use_that_is_settled_in_the_next_month_counts_there() -> None:
    clock = FakeClock(now=datetime(2026, 5, 31, 23, tzinfo=UTC).timestamp())

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        clock.advance(7200)
        await using(4000, 0)(scope, receive, send)

    app = limited("1/calendar-month", **MONEY, cost=0.5, app=slow, clock=clock)
    await call(app)
    assert await left(app) == 1  # June has nothing of a reservation of May
    app = limited("1/calendar-month", **MONEY, app=slow, clock=FakeClock(now=clock.now()))
    clock = app._plan.clock  # type: ignore[assignment]
    clock.advance(29 * 86_400 + 22 * 3600)
    await call(app)
    assert await left(app) == 1 - Decimal("0.009999")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_redis_counts_money_months_and_budgets_as_memory_does(redis_url: str, anyio_backend: str) -> None:
    async with limiters(storage=redis_url, store_timeout=LONGEST_WAIT) as make:
        made: Make = make
        app = made("1/calendar-month", "0.5/calendar-day", **MONEY, budget=0.01, cost=0.001, app=using(1000, 100))
        assert money(await call(app)) == ("0.01", "0.009")
        assert await left(app) == Decimal("0.0065")
        assert [(await call(app)).status for _ in range(3)] == [200, 200, 402]


async def test_a_request_is_refused_where_its_estimate_is_above_the_credit() -> None:
    app = limited(**MONEY, budget=0.01, cost="openai", app=using(1, 1), clock=FakeClock())
    assert (await asked(app, b'{"model": "gpt-x", "max_tokens": 900}')).status == 200
    assert (await asked(app, b'{"model": "gpt-x", "max_tokens": 1000}')).status == 402


# --- ledgers ----------------------------------------------------------------------------------------------------------


class Accounts:
    """The accounts of an app, in its own database."""

    def __init__(self, **balances: Any) -> None:
        self.balances = {key.replace("_", "-"): Decimal(amount) for key, amount in balances.items()}
        self.bills: list[tuple[str, Decimal, int | None]] = []
        self.is_down = False

    async def balance(self, caller: Any) -> Decimal | None:
        return self.balances.get(caller.value)

    async def charge(self, caller: Any, amount: Decimal, usage: Usage | None) -> None:
        if self.is_down:
            raise ConnectionError("no database")
        self.bills.append((caller.value, amount, usage and usage.total_tokens))
        self.balances[caller.value] -= amount


@pytest.mark.parametrize("shadow", [False, True])
@pytest.mark.parametrize("is_ledger", [True, False])
async def test_a_request_waits_for_the_credit_of_its_caller_no_longer_than_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, is_ledger: bool, shadow: bool
) -> None:
    """A database that hangs would hold each request, and its connection, for ever."""
    monkeypatch.setattr("flexmw.ratelimit.routes.BALANCE_SECONDS", 0.05)
    accounts = Accounts(sk_1=1)

    async def hang(caller: Any) -> Decimal | None:
        await anyio.sleep_forever()
        raise AssertionError

    accounts.balance = hang  # type: ignore[method-assign]
    budget = accounts if is_ledger else hang
    app = limited(**MONEY, budget=budget, shadow=shadow, app=using(1000, 100), clock=FakeClock())
    scope = scope_of()
    with anyio.fail_after(LONGEST_WAIT):
        response = await ask(app, scope)
        with pytest.raises(SubsystemOffline):
            await app.explain(scope)
    assert (response.status, accounts.bills) == (200 if shadow else 503, [])
    assert ("retry-after" in response) is not shadow
    result = "shadow_rejected" if shadow else "storage_error_rejected"
    assert Exchange.of(scope).facts["flexmw.rate_limiting.result"] == result
    assert f"The request {'is neither limited nor charged' if shadow else 'gets 503'}" in caplog.text


async def test_a_ledger_of_the_app_is_charged_once_for_each_request_and_decides() -> None:
    accounts = Accounts(sk_1="0.005", sk_2=1)
    app = limited(**MONEY, budget=accounts, app=using(1000, 100), clock=FakeClock())
    told = [(await call(app)) for _ in range(3)]
    assert [response.status for response in told] == [200, 200, 402]
    assert money(told[1]) == ("0.0015", "0.001499")
    assert "retry-after" not in told[2]
    assert accounts.bills == [("sk-1", Decimal("0.0035"), 1100)] * 2
    assert accounts.balances["sk-1"] == Decimal("-0.002")
    assert [(await call(app, key)).status for key in ("sk-2", "sk-3")] == [200, 200]
    accounts.balances["sk-1"] = Decimal(1)  # a payment
    assert (await call(app)).status == 200


async def test_requests_that_run_at_once_cannot_reserve_more_than_the_ledger_has() -> None:
    accounts, entered, opened = Accounts(sk_1="0.05"), anyio.Event(), anyio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        entered.set()
        await opened.wait()
        await using(1000, 100)(scope, receive, send)

    app = limited(**MONEY, budget=accounts, cost=0.03, app=slow, clock=FakeClock())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: call(app))
        await entered.wait()
        assert (await call(app)).status == 402
        opened.set()
    assert (await call(app)).status == 200
    assert [amount for _, amount, _ in accounts.bills] == [Decimal("0.0035")] * 2


async def test_what_costs_nothing_is_not_charged_and_a_correction_is() -> None:
    accounts = Accounts(sk_1=1)

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/fails":
            await sending(b"{}", status=500)(scope, receive, send)
            return
        await using(1000, 100)(scope, receive, send)
        settle(Decimal("0.001"), unit="usd")

    app = limited(**MONEY, budget=accounts, app=handler, clock=FakeClock())
    await call(app, path="/fails")
    assert accounts.bills == []
    await call(app)
    assert [amount for _, amount, _ in accounts.bills] == [Decimal("0.0035"), Decimal("-0.0025")]


async def test_a_ledger_that_fails_changes_no_response_and_keeps_the_reservation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    accounts, clock = Accounts(sk_1="0.05"), FakeClock()
    accounts.is_down = True
    app = limited(**MONEY, budget=accounts, cost=0.03, app=using(1000, 100), clock=clock)
    assert [(await call(app)).status for _ in range(2)] == [200, 402]
    assert "cannot settle a request" in caplog.text
    accounts.is_down = False
    clock.advance(3601)
    assert (await call(app)).status == 200


async def test_a_charge_that_fails_is_not_repeated_because_the_database_may_have_it() -> None:
    class AccountsThatLoseReplies(Accounts):
        async def charge(self, caller: Any, amount: Decimal, usage: Usage | None) -> None:
            await super().charge(caller, amount, usage)
            raise ConnectionError("the reply is lost")

    accounts = AccountsThatLoseReplies(sk_1=1)
    app = limited(**MONEY, budget=accounts, app=using(1000, 100), clock=FakeClock())
    assert (await call(app)).status == 200
    assert accounts.bills == [("sk-1", Decimal("0.0035"), 1100)]


class SlowAccounts(Accounts):
    """The accounts of an app whose database takes its time for each charge."""

    def __init__(self, **balances: Any) -> None:
        super().__init__(**balances)
        self.go_on = anyio.Event()
        self.charged = anyio.Event()

    async def charge(self, caller: Any, amount: Decimal, usage: Usage | None) -> None:
        await self.go_on.wait()
        await super().charge(caller, amount, usage)
        self.charged.set()


async def test_a_slow_ledger_holds_no_response_up_and_gets_its_charge(caplog: pytest.LogCaptureFixture) -> None:
    accounts = SlowAccounts(sk_1="0.05")
    app = limited(**MONEY, budget=accounts, cost=0.03, app=using(1000, 100), store_timeout=0.01, clock=FakeClock())
    assert (await call(app)).status == 200
    assert accounts.bills == []
    assert "has not taken a charge within store_timeout=0.01 seconds" in caplog.text
    assert (await call(app)).status == 402  # what the charge has not replaced stays reserved
    with anyio.fail_after(LONGEST_WAIT):
        accounts.go_on.set()
        await accounts.charged.wait()
    assert accounts.bills == [("sk-1", Decimal("0.0035"), 1100)]
    await app.close()
    assert (await call(app)).status == 200


async def test_a_correction_waits_for_the_charge_that_it_corrects() -> None:
    accounts = SlowAccounts(sk_1=1)

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await using(1000, 100)(scope, receive, send)
        settle(Decimal("0.001"), unit="usd")

    app = limited(**MONEY, budget=accounts, app=handler, store_timeout=0.01, clock=FakeClock())
    await call(app)
    assert accounts.bills == []
    accounts.go_on.set()
    await app.close()
    assert [amount for _, amount, _ in accounts.bills] == [Decimal("0.0035"), Decimal("-0.0025")]


async def test_a_cancelled_request_is_charged_and_gives_its_reservation_back() -> None:
    accounts, clock = SlowAccounts(sk_1="0.05"), FakeClock()
    app = limited(**MONEY, budget=accounts, cost=0.03, app=using(1000, 100), store_timeout=LONGEST_WAIT, clock=clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: call(app))
        with anyio.fail_after(LONGEST_WAIT):
            while not app._charges._running:
                await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    accounts.go_on.set()
    await app.close()
    assert [amount for _, amount, _ in accounts.bills] == [Decimal("0.0035")]
    assert (await call(app)).status == 200


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_the_end_of_an_app_leaves_the_charges_of_another_event_loop_alone(library: str) -> None:
    clock = FakeClock()
    charges, opened, done = Charges(0.01, clock), asyncio.Event(), list[str]()

    async def charge() -> None:
        await opened.wait()
        done.append("charged")

    async def finish() -> None:
        opened.set()
        await charges.drain()

    with asyncio.Runner() as runner:
        runner.run(charges.run(charge))
        started = clock.monotonic()
        anyio.run(charges.drain, backend=library)
        assert clock.monotonic() == started
        runner.run(finish())
    assert done == ["charged"]


async def run_lifespan(app: Any, until: anyio.Event) -> None:
    """Start an app, and end it when the event is set."""
    messages = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> Any:
        kind = next(messages)
        if kind == "lifespan.shutdown":
            await until.wait()
        return {"type": kind}

    async def send(message: Any) -> None: ...

    await app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)


@pytest.mark.parametrize("is_stuck", [False, True])
async def test_the_end_of_the_app_waits_for_charges_before_the_app_ends(
    is_stuck: bool, caplog: pytest.LogCaptureFixture
) -> None:
    accounts, ends = SlowAccounts(sk_1=1), anyio.Event()
    charged_at_shutdown: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await using(1000, 100)(scope, receive, send)
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        charged_at_shutdown.append(len(accounts.bills))
        await send({"type": "lifespan.shutdown.complete"})

    limiter = limited(**MONEY, budget=accounts, app=app, store_timeout=0.01, clock=FakeClock())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_lifespan, limiter, ends)
        await call(limiter)
        if not is_stuck:
            accounts.go_on.set()
        ends.set()
    assert charged_at_shutdown == [int(not is_stuck)]
    lines = [line.message for line in caplog.records if "was cut off" in line.message]
    assert len(lines) == int(is_stuck)
    assert all("The charge of 0.0035 usd to the ledger" in line for line in lines)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_ledger_works_with_redis(redis_url: str, anyio_backend: str) -> None:
    accounts = Accounts(sk_1="0.005")
    async with limiters(storage=redis_url, store_timeout=LONGEST_WAIT) as make:
        app = make(**MONEY, budget=accounts, app=using(1000, 100))
        assert [(await call(app)).status for _ in range(3)] == [200, 200, 402]
    assert accounts.balances["sk-1"] == Decimal("-0.002")


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rates", "options", "words"),
    [
        ([], {"unit": "usd"}, r"RateLimit\(\*rates\)"),
        ([], {"unit": "usd", "tokens": "9/day"}, r"RateLimit\(unit=...\) = 'usd': expected rates in this unit"),
        (["5/day"], {"unit": "tokens"}, r"RateLimit\(unit=...\) = 'tokens'"),
        (["5/day"], {"unit": "US$"}, r"RateLimit\(unit=...\)"),
        (["5/day"], {"price": price}, r"RateLimit\(price=...\) = .*: expected unit="),
        (["5/day"], {"budget": 5}, r"RateLimit\(budget=...\) = 5: expected unit="),
        (["5/day"], {"unit": "usd", "budget": -5}, r"RateLimit\(budget=...\) = -5: expected a number"),
        (["5/day"], {"unit": "usd", "usage": "openai"}, r"RateLimit\(usage=...\)"),
        (["5/day"], {"unit": "usd", "cost": "openai"}, r"RateLimit\(cost=...\) = 'openai': expected price="),
        (["5/day"], {"unit": "usd", "cost": 6}, "at most the smallest limit, 5"),
        (["5/day"], {"unit": "usd", "strategy": "moving-window"}, r"RateLimit\(strategy=...\) = 'moving-window'"),
        (["5/day"], {"cost": 1.5}, "a whole number, at least 1"),
        (["5/day"], {"cost": 0}, "a whole number, at least 1"),
        (["5/day"], {"cost": "openai"}, "a whole number, at least 1"),
        (["5/minute"], {**MONEY, "budget": 5}, "expected 'fixed-window'"),
    ],
)
def test_options_that_cannot_work_are_refused(rates: list[str], options: Any, words: str) -> None:
    with pytest.raises(flexmw.ConfigError, match=words):
        flexmw.RateLimit(*rates, **options)


def test_a_limit_of_a_route_takes_none_of_them() -> None:
    for name in ("usage", "unit", "price", "budget"):
        with pytest.raises(flexmw.ConfigError, match=rf"limit\({name}=...\)"):
            flexmw.limit("5/day", **{name: "openai"})
