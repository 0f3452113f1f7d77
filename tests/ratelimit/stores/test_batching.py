from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flexmw.kit.store_url import parse
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.ratelimit.core import SECOND, Check, LimitResult
from flexmw.ratelimit.rates import parse_rates
from flexmw.ratelimit.stores.batching import MAX_IN_FLIGHT, Batcher
from flexmw.ratelimit.stores.memory import MemoryStore
from flexmw.ratelimit.stores.redis import RedisStore
from tests.ratelimit.calls import check_of
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio
NAMES = sorted(ALGORITHMS)
RATES = parse_rates("100/minute")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


class Answers:
    """A store that answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, asyncio.Future[list[Any]]]] = []
        self.cancelled = 0
        self.came = asyncio.Event()

    async def __call__(self, check: Check, number: int) -> list[Any]:
        answer = asyncio.get_running_loop().create_future()
        self.asked.append((number, answer))
        self.came.set()
        try:
            return await answer  # type: ignore[no-any-return]
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


async def turns(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def sent(batcher: Batcher, answers: Answers, number: int) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.create_task(batcher.send(answers, check_of("question", RATES))) for _ in range(number)]
    await turns()
    return tasks


async def test_the_first_checks_are_sent_alone_and_the_rest_in_one_batch_when_one_returns() -> None:
    batcher, answers = Batcher(), Answers()
    tasks = await sent(batcher, answers, MAX_IN_FLIGHT + 5)
    assert [number for number, _ in answers.asked] == [1] * MAX_IN_FLIGHT
    answers.asked[0][1].set_result(["first"])
    await turns()
    assert [number for number, _ in answers.asked][MAX_IN_FLIGHT:] == [5]
    for _, answer in answers.asked[1:]:
        answer.set_result(["more"])
    said = await asyncio.gather(*tasks)
    assert said[0] == (["first"], 0)
    assert [place for _, place in said[MAX_IN_FLIGHT:]] == [0, 1, 2, 3, 4]
    assert batcher._queues == {}


async def test_a_batch_is_sent_after_the_longest_wait_even_if_no_command_has_returned() -> None:
    batcher, answers = Batcher(), Answers()
    tasks = await sent(batcher, answers, MAX_IN_FLIGHT + 5)
    answers.came.clear()
    await asyncio.wait_for(answers.came.wait(), LONGEST_WAIT)  # though none of the first ones is answered
    assert [number for number, _ in answers.asked][MAX_IN_FLIGHT:] == [5]
    more = await sent(batcher, answers, 3)
    assert len(answers.asked) == MAX_IN_FLIGHT + 1
    for _, answer in answers.asked:
        answer.set_result(["first"])
    await turns()
    answers.asked[-1][1].set_result(["second"])
    said = await asyncio.gather(*tasks, *more)
    assert [place for _, place in said[MAX_IN_FLIGHT:]] == [0, 1, 2, 3, 4, 0, 1, 2]
    assert batcher._queues == {}


async def test_other_checks_do_not_wait() -> None:
    batcher, answers = Batcher(), Answers()
    tasks = await sent(batcher, answers, MAX_IN_FLIGHT + 1)
    tasks.append(asyncio.create_task(batcher.send(answers, check_of("another", RATES))))
    await turns()
    assert len(answers.asked) == MAX_IN_FLIGHT + 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_failed_command_fails_its_batch_and_later_checks_are_sent_again() -> None:
    batcher, answers = Batcher(), Answers()
    tasks = await sent(batcher, answers, MAX_IN_FLIGHT + 3)
    answers.asked[0][1].set_exception(ConnectionError("gone"))
    await turns()
    late = await sent(batcher, answers, 2)
    answers.asked[-1][1].set_exception(ConnectionError("gone"))
    await turns()
    assert answers.asked[-1][0] == 2
    for _, answer in answers.asked:
        if not answer.done():
            answer.set_result([])
    outcomes = await asyncio.gather(*tasks, *late, return_exceptions=True)
    assert [isinstance(outcome, ConnectionError) for outcome in outcomes] == [
        True,
        *[False] * (MAX_IN_FLIGHT - 1),
        *[True] * 3,
        *[False] * 2,
    ]


async def test_a_cancelled_check_disturbs_no_other_and_a_batch_without_waiters_is_cancelled() -> None:
    batcher, answers = Batcher(), Answers()
    tasks = await sent(batcher, answers, MAX_IN_FLIGHT + 4)
    tasks[MAX_IN_FLIGHT].cancel()  # before its flight
    answers.asked[0][1].set_result([])
    await turns()
    assert answers.asked[-1][0] == 3
    tasks[MAX_IN_FLIGHT + 1].cancel()  # during it
    await turns()
    assert answers.cancelled == 0
    tasks[MAX_IN_FLIGHT + 2].cancel()
    tasks[MAX_IN_FLIGHT + 3].cancel()
    await turns()
    assert answers.cancelled == 1
    for _, answer in answers.asked:
        if not answer.done():
            answer.set_result([])
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes] == [False] * MAX_IN_FLIGHT + [True] * 4
    assert batcher._queues == {}


async def test_a_cancelled_batch_cancels_the_checks_that_wait_for_it() -> None:
    batcher, answers = Batcher(), Answers()
    tasks = await sent(batcher, answers, MAX_IN_FLIGHT + 1)
    answers.asked[0][1].set_result([])
    await turns()
    answers.asked[-1][1].cancel()
    await turns()
    assert tasks[-1].cancelled()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def store_of(url: str, strategy: str) -> AsyncGenerator[RedisStore]:
    store = RedisStore(ALGORITHMS[strategy], parse(url, "storage"))
    try:
        yield store
    finally:
        await store.close()


@pytest.mark.parametrize("strategy", NAMES)
async def test_equal_checks_share_commands_and_each_has_its_own_remaining(redis_url: str, strategy: str) -> None:
    rates = parse_rates(["60/hour", "90/day"])
    async with store_of(redis_url, strategy) as store:
        await store.decide(check_of("warm", rates, 1))
        with redis.Redis.from_url(redis_url) as server:
            before = server.info("commandstats")["cmdstat_evalsha"]["calls"]
            said = await asyncio.gather(*(store.decide(check_of("caller", rates, 1)) for _ in range(100)))
            calls = server.info("commandstats")["cmdstat_evalsha"]["calls"] - before
    assert calls <= 2 * MAX_IN_FLIGHT
    assert sorted(each.remaining for each in said if not each.wait_us) == list(range(60))
    assert {(each.rate.name, each.remaining) for each in said if each.wait_us} == {("60/hour", 0)}
    # Those that waited are admitted in the order in which they came.
    refused = [each.wait_us > 0 for each in said[MAX_IN_FLIGHT:]]
    assert refused == sorted(refused)


@pytest.mark.parametrize("strategy", NAMES)
def test_a_batch_is_decided_like_single_checks(redis_url: str, strategy: str) -> None:
    callers = iter(range(1_000_000))

    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(
        crowds=st.lists(st.tuples(st.integers(1, 30), st.integers(1, 4)), min_size=1, max_size=4),
        limits=st.tuples(st.integers(1, 60), st.integers(1, 90)),
    )
    def alike(crowds: list[tuple[int, int]], limits: tuple[int, int]) -> None:
        asyncio.run(compare(f"caller {next(callers)}", crowds, parse_rates([f"{limits[0]}/day", f"{limits[1]}/month"])))

    async def compare(digest: str, crowds: Any, rates: Any) -> None:
        memory = MemoryStore(ALGORITHMS[strategy])
        async with store_of(redis_url, strategy) as store:
            for number, cost in crowds:
                theirs = await asyncio.gather(*(store.decide(check_of(digest, rates, cost)) for _ in range(number)))
                ours = [memory.decide(check_of(digest, rates, cost)) for _ in range(number)]
                assert sorted(map(shape, theirs)) == sorted(map(shape, ours))

    def shape(said: LimitResult) -> Any:
        # Rounded: the two began some milliseconds apart.
        return said.rate.name, said.remaining, round(said.wait_us / (60 * SECOND))

    alike()


@pytest.mark.parametrize("strategy", NAMES)
async def test_a_batch_that_obeys_its_wait_is_not_refused_again(redis_url: str, strategy: str) -> None:
    rates = parse_rates("40/second")
    async with store_of(redis_url, strategy) as store:
        said = await asyncio.gather(*(store.decide(check_of("caller", rates, 2)) for _ in range(30)))
        waits = [each.wait_us for each in said if each.wait_us]
        assert len(waits) == 10
        await asyncio.sleep(min(waits) / SECOND)
        assert not (await store.decide(check_of("caller", rates, 2))).wait_us
