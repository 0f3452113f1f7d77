from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limits import parse
from limits.storage import storage_from_string
from limits.strategies import STRATEGIES as LIMITS_STRATEGIES

from flexmw.kit.store_url import parse as parse_url
from flexmw.ratelimit import RateLimit
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.ratelimit.core import SECOND
from flexmw.ratelimit.rates import parse_rates
from flexmw.ratelimit.stores.memory import MemoryStore
from flexmw.ratelimit.stores.redis import RedisStore
from flexmw.testing import FakeClock
from tests.processes import Program, programs
from tests.ratelimit.calls import Make, answering, call, check_of, limiters
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio
NAMES = sorted(ALGORITHMS)
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def limited(redis_url: str) -> AsyncGenerator[Make]:
    async with limiters(storage=redis_url, store_timeout=LONGEST_WAIT, on_store_failure="closed") as make:
        yield make


@pytest.mark.parametrize("strategy", ["sliding-window-counter", "fixed-window"])
async def test_a_clock_that_was_set_back_makes_no_window_longer(limited: Make, redis_url: str, strategy: str) -> None:
    """The server keeps the moment at which a key expires, which is then further away than it was."""
    app = limited("3/minute", strategy=strategy)
    assert [(await call(app)).status for _ in range(3)] == [200] * 3
    with redis.Redis.from_url(redis_url) as server:
        keys = server.keys("LIMITS:*")
        for key in keys:
            server.pexpire(key, 1_200_000)
        refused = await call(app)
        assert refused.status == 429
        assert 0 < int(refused["retry-after"]) <= 120
        assert keys
        assert all(0 < server.pttl(key) <= 120_000 for key in keys)


@pytest.mark.parametrize(
    ("rates", "policy", "is_said"),
    [
        (["9/minute"], "allkeys-lru", False),
        (["9/minute", "99/day"], "allkeys-lru", True),
        (["99/calendar-month"], "volatile-ttl", True),
        (["99/day"], "noeviction", False),
    ],
)
def test_a_server_that_deletes_counters_when_it_is_full_is_a_warning_at_start(
    redis_url: str, caplog: pytest.LogCaptureFixture, rates: list[str], policy: str, *, is_said: bool
) -> None:
    """The counter of a minute is used by whoever it limits, and is hardly ever the one that is deleted."""
    with redis.Redis.from_url(redis_url) as server:
        server.config_set("maxmemory", "500mb")
        server.config_set("maxmemory-policy", policy)
        try:
            RateLimit(*rates, storage=redis_url, strategy="fixed-window").asgi(answering())
        finally:
            server.config_set("maxmemory", 0)
            server.config_set("maxmemory-policy", "noeviction")
    assert [f"has the maxmemory-policy {policy}" in line for line in caplog.messages] == [True] * is_said


def store_of(url: str, name: str) -> RedisStore:
    return RedisStore(ALGORITHMS[name], parse_url(url, "storage"))


@pytest.fixture(scope="module")
def processes() -> Iterator[list[Program]]:
    with programs("tests.ratelimit.limiter_process", number=4) as started:
        yield started


@pytest.mark.parametrize("strategy", NAMES)
def test_four_processes_admit_exactly_the_limit_and_report_every_number_once(
    processes: list[Program], redis_url: str, strategy: str
) -> None:
    run = json.dumps([redis_url, ["50/hour", "60/day"], strategy, 250, 50])
    for process in processes:
        process.send(run)
    assert [process.receive() for process in processes] == ["ready"] * 4
    for process in processes:
        process.send("go")
    said = [outcome for process in processes for outcome in json.loads(process.receive())]
    admitted = [remaining for status, remaining in said if status == 200]
    # gcra leaks: one more for each 72 s that the run would take.
    assert sorted(admitted) == list(range(50))
    assert [remaining for status, remaining in said if status == 429] == [0] * 950


@pytest.mark.parametrize("strategy", NAMES)
@pytest.mark.parametrize("rates", [["9/minute"], ["9/minute", "100/hour", "200/day", "300/year"]], ids=["1", "4"])
async def test_a_decision_is_one_command_whatever_the_number_of_windows(
    limited: Make, server: redis.Redis, strategy: str, rates: list[str]
) -> None:
    app = limited(*rates, strategy=strategy)
    await call(app, "warm the script and the connection")
    with server.monitor() as monitor:
        commands: list[str] = []
        for _ in range(10):
            assert (await call(app)).status in (200, 429)
        server.execute_command("PING")
        for entry in monitor.listen():
            if entry["command"].startswith("PING"):
                break
            name = entry["command"].split()[0]
            if entry["client_type"] != "lua" and name not in ("HELLO", "CLIENT"):  # of the client that says PING
                commands.append(name)
    # Nine are admitted, one is refused: each took one command.
    assert commands == ["EVALSHA"] * 10


@pytest.mark.parametrize("strategy", NAMES)
async def test_a_saturated_caller_costs_the_store_nothing_until_the_wait_is_over(
    limited: Make, server: redis.Redis, strategy: str
) -> None:
    app = limited("2/second", strategy=strategy)
    while (await call(app)).status == 200:
        pass
    before = server.info("commandstats")["cmdstat_evalsha"]["calls"]
    answers = [await call(app) for _ in range(20)]
    assert {each.status for each in answers} == {429}
    assert server.info("commandstats")["cmdstat_evalsha"]["calls"] == before
    await asyncio.sleep(int(answers[-1]["retry-after-ms"]) / 1000)
    assert (await call(app)).status == 200


@pytest.mark.parametrize("strategy", sorted(LIMITS_STRATEGIES))
async def test_limits_itself_agrees_on_the_same_keys(redis_url: str, strategy: str) -> None:
    theirs = LIMITS_STRATEGIES[strategy](storage_from_string(redis_url))
    store, rates, item = store_of(redis_url, strategy), parse_rates("10/minute"), parse("10/minute")
    for used in range(1, 6):
        said = await store.decide(check_of("digest", rates, 1))
        assert theirs.get_window_stats(item, "{digest}", strategy).remaining == said.remaining == 10 - used
    assert theirs.hit(item, "{digest}", strategy, cost=3)
    assert (await store.decide(check_of("digest", rates, 1))).remaining == 1
    assert theirs.hit(item, "{digest}", strategy)
    assert not theirs.test(item, "{digest}", strategy)
    assert (await store.decide(check_of("digest", rates, 1))).wait_us > 0
    await store.close()


@pytest.mark.parametrize("strategy", NAMES)
async def test_no_key_stays_for_ever_and_none_holds_a_secret(limited: Make, server: redis.Redis, strategy: str) -> None:
    app = limited("3/minute", "9/day", strategy=strategy)
    for _ in range(5):
        await call(app, "sk-live-canary")
    keys = server.keys("*")
    assert keys
    for key in keys:
        assert server.pttl(key) > 0
        assert b"canary" not in key
        assert key.startswith(b"LIMITS:")
    assert len({key[key.index(b"{") + 1 : key.index(b"}")] for key in keys}) == 1


async def test_changing_the_strategy_on_live_keys_never_meets_a_wrong_type(limited: Make) -> None:
    for strategy in (*NAMES, *NAMES):
        app = limited("3/minute", strategy=strategy)
        assert (await call(app)).status == 200


async def test_a_server_that_forgot_the_script_gets_it_again(limited: Make, server: redis.Redis) -> None:
    app = limited("10/minute")
    for remaining in (9, 8, 7):
        server.script_flush()
        answer = await call(app)
        assert (answer.status, answer.quota[1]) == (200, remaining)


async def test_a_counter_without_a_time_to_live_is_healed(redis_url: str, server: redis.Redis) -> None:
    store, rates = store_of(redis_url, "fixed-window"), parse_rates("3/minute")
    server.set("LIMITS:" + rates[0].key("digest", "fixed-window"), 3)
    assert (await store.decide(check_of("digest", rates, 1))).remaining == 2
    assert server.pttl("LIMITS:" + rates[0].key("digest", "fixed-window")) > 0
    await store.close()


@pytest.mark.parametrize("strategy", NAMES)
async def test_whoever_obeys_retry_after_is_not_refused_again(redis_url: str, strategy: str) -> None:
    store, rates = store_of(redis_url, strategy), parse_rates("5/second")

    async def client(number: int) -> int:
        refused_again, obeyed = 0, False
        cost = 1 + number % 3
        await asyncio.sleep(number * 0.037)
        for _ in range(8 - cost):  # each obeys at least one refusal
            said = await store.decide(check_of(f"caller {number}", rates, cost))
            refused_again += obeyed and said.wait_us > 0
            obeyed = said.wait_us > 0
            if obeyed:
                await asyncio.sleep(said.wait_us / SECOND)
        return refused_again

    assert sum(await asyncio.gather(*(client(number) for number in range(25)))) == 0
    await store.close()


@pytest.mark.parametrize("strategy", NAMES)
async def test_settling_and_looking_are_one_command_each_and_exact(redis_url: str, strategy: str) -> None:
    store, rates = store_of(redis_url, strategy), parse_rates(["20/minute", "50/day"])
    assert (await store.decide(check_of("digest", rates, 15))).remaining == 5
    assert (await store.decide(check_of("digest", rates, 5, take=False))).remaining == 5
    assert (await store.decide(check_of("digest", rates, 6, take=False))).wait_us > 0
    await store.refund(check_of("digest", rates, 10))
    assert (await store.decide(check_of("digest", rates, 1))).remaining == 14
    await store.refund(check_of("digest", rates, -30))
    said = await store.decide(check_of("digest", rates, 1))
    assert (said.wait_us > 0, said.remaining) == (True, 0)
    await store.refund(check_of("nobody", rates, 10))
    assert (await store.decide(check_of("nobody", rates, 1))).remaining == 19
    await store.close()


arrivals = st.lists(st.tuples(st.sampled_from([0, 30, 110, 230]), st.integers(1, 3)), min_size=1, max_size=8)


@pytest.mark.parametrize("strategy", NAMES)
def test_memory_and_redis_decide_alike_on_the_same_arrivals(redis_url: str, strategy: str) -> None:
    numbers = iter(range(1_000_000))

    @settings(
        max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    )
    @given(arrivals=arrivals, limit=st.integers(3, 6))
    def alike(arrivals: list[tuple[int, int]], limit: int) -> None:
        asyncio.run(compare(f"caller {next(numbers)}", arrivals, limit))

    async def compare(digest: str, arrivals: list[tuple[int, int]], limit: int) -> None:
        clock = FakeClock()
        store, memory, rates = (
            store_of(redis_url, strategy),
            MemoryStore(ALGORITHMS[strategy], clock),
            parse_rates(f"{limit}/second"),
        )
        try:
            await store.decide(check_of("warm", rates, 1))
            loop = asyncio.get_running_loop()
            began = loop.time()
            for gap, cost in arrivals:
                await asyncio.sleep(gap / 1000)
                before = loop.time() - began
                theirs = await store.decide(check_of(digest, rates, cost))
                after = loop.time() - began
                clock.advance(after - (clock.monotonic() - 1000.0))
                ours = memory.decide(check_of(digest, rates, cost))
                near = min(abs(theirs.wait_us), abs(ours.wait_us)) < (after - before) * SECOND + 60_000
                if not near:
                    assert (theirs.wait_us > 0, theirs.remaining) == (ours.wait_us > 0, ours.remaining) or edge(
                        theirs, ours
                    )
                if (theirs.wait_us > 0) != (ours.wait_us > 0):
                    break  # decided at different moments around an edge: from here on they are different callers
        finally:
            await store.close()

    def edge(theirs: Any, ours: Any) -> bool:
        return abs(theirs.remaining - ours.remaining) <= 1 and (theirs.wait_us > 0) == (ours.wait_us > 0)

    alike()
