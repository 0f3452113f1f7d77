"""Refunds that come late: what left with its window is not given back."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest
import redis
from starlette.types import Receive, Scope, Send

from flexmw.kit.store_url import parse
from flexmw.ratelimit import settle
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.ratelimit.core import SECOND
from flexmw.ratelimit.rates import parse_rates
from flexmw.ratelimit.stores.redis import RedisStore
from flexmw.testing import FakeClock
from tests.ratelimit.calls import answering, call, check_of, limited

pytestmark = pytest.mark.anyio
NAMES = sorted(ALGORITHMS)


class Late:
    """An app whose first request waits to be let go before it says that it used nothing."""

    def __init__(self) -> None:
        self.entered, self.opened = anyio.Event(), anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/late":
            self.entered.set()
            await self.opened.wait()
            settle(0)
        await answering()(scope, receive, send)


@pytest.mark.parametrize("strategy", NAMES)
async def test_a_refund_from_an_earlier_window_does_not_lower_the_current_count(strategy: str) -> None:
    clock, gate = FakeClock(), Late()
    app = limited(app=gate, tokens="100/minute", token_cost=lambda scope: 90, strategy=strategy, clock=clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: call(app, path="/late"))
        await gate.entered.wait()
        clock.advance(130.0)
        assert (await call(app)).status == 200  # 90 of 100 in the window that is now
        gate.opened.set()
    assert (await call(app)).status == 429


# Seconds and costs: what is used before, when the late one takes its 90, who comes then, when the late one gives all
# back, and who must not find room after that.
_LATE = {
    "fixed-window": ((0, 5), 50, (61, 90), 62, (62, 90)),
    "sliding-window-counter": ((0, 5), 50, (109.9, 80), 109.95, (109.95, 80)),
    "moving-window": ((0, 1), 0, (59, 5), 59.5, (60.1, 96)),
    "gcra": ((0, 1), 0, (50, 90), 51, (51, 90)),
}


@pytest.mark.parametrize("strategy", NAMES)
async def test_a_late_refund_gives_back_nothing_that_others_have_taken(strategy: str) -> None:
    clock, gate = FakeClock(), Late()
    begin = clock.monotonic()
    app = limited(
        app=gate,
        tokens="100/minute",
        token_cost=lambda scope: 90 if scope["path"] == "/late" else int(scope["path"][1:]),
        strategy=strategy,
        clock=clock,
    )

    async def use(moment: float, cost: int) -> int:
        clock.advance(begin + moment - clock.monotonic())
        return (await call(app, path=f"/{cost}")).status

    before, taken, then, given, after = _LATE[strategy]
    assert await use(*before) == 200
    clock.advance(begin + taken - clock.monotonic())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: call(app, path="/late"))
        await gate.entered.wait()
        assert await use(*then) == 200
        clock.advance(begin + given - clock.monotonic())
        gate.opened.set()
    assert await use(*after) == 429


@pytest.mark.parametrize("strategy", NAMES)
async def test_a_refund_within_its_window_admits_another_request(strategy: str) -> None:
    clock, gate = FakeClock(), Late()
    app = limited(app=gate, tokens="100/minute", token_cost=lambda scope: 90, strategy=strategy, clock=clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: call(app, path="/late"))
        await gate.entered.wait()
        clock.advance(1.0)
        gate.opened.set()
    assert (await call(app)).status == 200


@pytest.mark.parametrize("strategy", ["fixed-window", "sliding-window-counter"])
async def test_the_age_of_a_refund_does_not_include_a_slow_decision(strategy: str) -> None:
    clock, gate = FakeClock(), Late()
    gate.opened.set()
    app = limited(app=gate, tokens="100/minute", token_cost=lambda scope: 90, strategy=strategy, clock=clock)
    decide = app.backend.decide

    async def slow_to_decide(*values: Any, **options: Any) -> Any:
        clock.advance(0.05)
        return await decide(*values, **options)

    app.backend.decide = slow_to_decide  # type: ignore[method-assign]
    assert [(await call(app, path="/late")).status for _ in range(2)] == [200, 200]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("strategy", NAMES)
async def test_redis_refunds_by_age_as_memory_does(redis_url: str, strategy: str, anyio_backend: str) -> None:
    store, rates = RedisStore(ALGORITHMS[strategy], parse(redis_url, "storage")), parse_rates("100/hour")
    left: list[int] = []
    try:
        for age in (0, 5, 3_000, 3_601, 7_201):
            digest = f"{strategy} {age}"
            await store.decide(check_of(digest, rates, 90))
            await store.refund(check_of(digest, rates, 80), age * SECOND)
            left.append((await store.decide(check_of(digest, rates, 0, take=False))).remaining)
    finally:
        await store.close()
    # What was taken in a window that has just begun cannot have been taken long before; a bucket has drained since.
    assert left == {"gcra": [90, 89, 10, 10, 10]}.get(strategy, [90, 10, 10, 10, 10])


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_refund_in_a_redis_log_removes_only_old_entries(redis_url: str, anyio_backend: str) -> None:
    store, rates = RedisStore(ALGORITHMS["moving-window"], parse(redis_url, "storage")), parse_rates("100/hour")
    key = f"LIMITS:{rates[0].key('log', 'moving-window')}"
    now = time.time()
    try:
        with redis.Redis.from_url(redis_url) as server:
            server.rpush(key, *[now] * 10, *[now - 60] * 50, *[now - 120] * 5)
            await store.refund(check_of("log", rates, 30), 30 * SECOND)
            stamps = [round(now - float(stamp)) for stamp in server.lrange(key, 0, -1)]
    finally:
        await store.close()
    assert stamps == [0] * 10 + [60] * 20 + [120] * 5
