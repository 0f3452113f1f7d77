"""Another pepper: the same callers, known by other digests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import redis
from starlette.types import Receive, Scope, Send

from flexmw.errors import ConfigError
from flexmw.kit.identity import CallerHasher
from flexmw.ratelimit import RateLimit, settle
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.testing import FakeClock
from tests.ratelimit.calls import Make, answering, call, limiters, scope_of
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio
NAMES = sorted(ALGORITHMS)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def limited(redis_url: str) -> AsyncGenerator[Make]:
    async with limiters(storage=redis_url, store_timeout=LONGEST_WAIT, on_store_failure="closed") as make:
        yield lambda pepper, *rates, **options: make(*rates, pepper=pepper, **options)


@pytest.mark.parametrize("key", ["sk-1", None], ids=["token", "address"])
@pytest.mark.parametrize("strategy", NAMES)
async def test_a_caller_keeps_the_usage_under_the_new_pepper(
    limited: Make, server: redis.Redis, strategy: str, key: str | None
) -> None:
    rates: Any = ("5/day", "100/year")
    before, after = (limited(pepper, *rates, strategy=strategy) for pepper in ("old", ("new", "older", "old")))
    for _ in range(3):
        await call(before, key)
    assert [(await call(after, key)).status for _ in range(3)] == [200, 200, 429]
    old = CallerHasher(pepper="old")
    digests = [old.of_key(b"sk-1").digest, old.of_address(scope_of()).digest]
    assert not any(digest.encode() in name for name in server.keys("*") for digest in digests)
    assert all(server.pttl(name) > 0 for name in server.keys("*"))


@pytest.mark.parametrize("strategy", NAMES)
async def test_it_is_still_one_command(limited: Make, server: redis.Redis, strategy: str) -> None:
    before = limited("old", "9/day", strategy=strategy)
    after = limited(("new", "old"), "9/day", strategy=strategy)
    await call(after, "warm")
    await call(before)
    with server.monitor() as monitor:
        assert [(await call(after)).quota[1] for _ in range(3)] == [7, 6, 5]
        server.execute_command("PING")
        commands = []
        for entry in monitor.listen():
            if entry["command"].startswith("PING"):
                break
            if entry["client_type"] != "lua":
                commands.append(entry["command"].split()[0])
    assert commands.count("EVALSHA") == 3 == len([name for name in commands if name not in ("HELLO", "CLIENT")])


@pytest.mark.parametrize("strategy", NAMES)
async def test_while_both_orders_are_running_the_limit_is_exact(limited: Make, strategy: str) -> None:
    apps = [limited(pepper, "50/day", strategy=strategy) for pepper in (("old", "new"), ("new", "old"))]
    answers = await asyncio.gather(*(call(apps[number % 2]) for number in range(200)))
    assert sorted(answer.quota[1] for answer in answers if answer.status == 200) == list(range(50))


async def test_the_slots_of_both_peppers_are_counted_and_given_back(limited: Make, server: redis.Redis) -> None:
    entered, go = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        entered.set()
        await go.wait()
        await answering()(scope, receive, send)

    before, after = limited("old", app=slow, concurrency=1), limited(("new", "old"), concurrency=1)
    first = asyncio.create_task(call(before))
    await entered.wait()
    assert (await call(after)).status == 429
    go.set()
    assert (await first).status == 200
    assert (await call(after)).status == 200
    assert server.keys("*slots*") == []


async def test_an_estimate_is_settled_where_its_counter_is(limited: Make) -> None:
    async def model(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await call(other)).status == 200  # moves the counter, and moves it back
        settle(10)
        await answering()(scope, receive, send)

    options: Any = {"tokens": "100/day", "token_cost": 40}
    other = limited(("old", "new"), **options)
    app = limited(("new", "old"), app=model, **options)
    await call(app)
    seen = await app.explain(scope_of())
    assert seen is not None
    assert (seen.unit, seen.remaining) == ("tokens", 50)


async def test_memory_begins_with_the_peppers_that_it_has() -> None:
    app = RateLimit("2/day", pepper=("new", "old"), clock=FakeClock()).asgi(answering())
    assert [(await call(app)).status for _ in range(3)] == [200, 200, 429]


def test_peppers_that_a_store_cannot_bring_together_are_refused_and_none_is_shown() -> None:
    several: Any = {"pepper": ["hunter2", "hunter3"], "on_store_failure": "local"}
    with pytest.raises(ConfigError, match="one pepper: in a cluster"):
        RateLimit("5/day", storage="redis+cluster://localhost", **several)
    assert "hunter" not in repr(RateLimit("5/day", **several))
    assert RateLimit("5/day", **several) == RateLimit("5/day", **{**several, "pepper": ("hunter2", "hunter3")})
