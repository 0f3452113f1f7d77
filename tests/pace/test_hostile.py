"""Pace among servers that say nonsense or nothing, stores that answer too late, callers who leave while they wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

import flexmw.httpx
from flexmw.pace import Pace
from flexmw.pace.headers import word_of
from flexmw.pace.redis import PREFIX, Shared, dumped, loaded
from flexmw.pace.registry import caller_of
from flexmw.pace.schedule import Lane, Word
from flexmw.testing import FakeClock

pytestmark = pytest.mark.anyio
MOST = 120.0


def told(limit: int, remaining: int, ends: float) -> Word:
    return Word(limit, remaining, ends - 0.001, ends, ends - 0.001)


def turn(lane: Lane, now: float) -> tuple[float, Any]:
    wait = lane.wait(now)
    return (wait, None) if 0 < wait <= MOST else (0.0, lane.sent(now))


# --- servers ----------------------------------------------------------------------------------------------------------


def test_a_server_that_tells_of_no_limit_any_more_is_soon_not_paced_any_more() -> None:
    lane, now = Lane(patience=5.0), 0.0
    lane.answered(lane.sent(now), now=now, word=told(1, 0, 10.0))
    went: list[float] = []
    while len(went) < 20 and now < 3600:
        wait, ticket = turn(lane, now)
        if ticket is None:
            now += wait
            continue
        went.append(now)
        lane.answered(ticket, now=now)
    assert went[-1] < 90  # one in a window for a minute, then one after the other
    tickets = [turn(lane, now)[1] for _ in range(5)]
    assert None not in tickets


def test_when_the_last_limit_is_forgotten_one_goes_first() -> None:
    lane = Lane(patience=5.0)
    lane.answered(lane.sent(0.0), now=0.0, word=told(1, 0, 10.0))
    lane.answered(lane.sent(11.0), now=100.0)
    first = turn(lane, 100.1)[1]
    assert first is not None
    assert turn(lane, 100.1)[1] is None
    lane.answered(first, now=100.2, word=told(1, 0, 10.0))
    assert lane.wait(100.3) > 9


def test_a_few_seconds_without_a_word_forget_nothing() -> None:
    lane = Lane(patience=5.0)
    lane.answered(lane.sent(0.0), now=0.0, word=told(3, 2, 1.0))
    for now in (10.0, 20.0, 30.0):
        lane.answered(lane.sent(now), now=now)
    assert list(lane.accounts) == [3]


def test_an_answer_to_a_lane_that_was_forgotten_meanwhile_makes_no_room() -> None:
    before = Lane(patience=5.0)
    for _ in range(50):
        ticket = before.sent(0.0)
        before.answered(ticket, now=0.0, word=told(100, 50, 60.0))
    ticket, lane = before.sent(1.0), Lane(patience=5.0)
    lane.answered(ticket, now=1.1, word=told(100, 2, 59.0))
    assert lane.accounts[100].room == 2


_NUMBERS = st.sampled_from(
    (
        *("", "0", "-1", "1", "5", "9" * 18, "9" * 60, "9" * 300, "0.5", "nan", "inf", "1e9", " 3 ", "3, 4", "\u0661"),
        *("1795341304", "1000000000", "1795341304000", "0s", "12ms", "6m0s", "999999999999999h"),
    )
)
_DATES = st.sampled_from(["", "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "x", "Sun Nov"])
_NAMES = ["limit", "remaining", "reset"]


@st.composite
def _nonsense(draw: st.DrawFn) -> dict[str, str]:
    headers = {f"x-ratelimit-{name}-requests": draw(_NUMBERS) for name in _NAMES if draw(st.booleans())}
    headers |= {f"x-ratelimit-{name}": draw(_NUMBERS) for name in _NAMES if draw(st.booleans())}
    if draw(st.booleans()):
        q, w, r, t = (draw(_NUMBERS) for _ in range(4))
        headers |= {"ratelimit-policy": f'"a";q={q};w={w}', "ratelimit": f'"a";r={r};t={t}'}
    return {**headers, "date": draw(_DATES)}


@given(st.lists(st.tuples(_nonsense(), st.sampled_from([0.0, 0.01, 3.0, 70.0]), st.booleans()), max_size=12))
def test_whatever_a_server_says_somebody_goes_and_little_is_remembered(
    said: list[tuple[dict[str, str], float, bool]],
) -> None:
    lane, now, ahead = Lane(patience=5.0), 0.0, None
    for headers, took, lost in said:
        waited = 0.0
        while (found := turn(lane, now))[1] is None:
            assert found[0] > 0
            now += found[0]
            waited += found[0]
            assert waited < 4 * MOST
        sent, now = now, now + took
        word, ahead = word_of(headers, 1.8e9 + sent, 1.8e9 + now, ahead)
        if lost:
            lane.failed(found[1], now=now)
        else:
            lane.answered(found[1], now=now, word=word)
        lane = loaded(dumped(lane))
    assert len(lane.accounts) <= 8
    assert len(dumped(lane)) < 8000


def test_a_reset_beyond_all_measure_does_not_keep_the_store_from_being_told(redis_url: str) -> None:
    headers = {"x-ratelimit-limit": "3", "x-ratelimit-remaining": "2", "x-ratelimit-reset": "999999999999999h"}
    clock = FakeClock()
    transport = flexmw.httpx.Transport(
        Pace(storage=redis_url, clock=clock),
        transport=httpx.MockTransport(lambda request: httpx.Response(200, headers=headers)),
        clock=clock,
    )
    with httpx.Client(transport=transport) as client, Redis.from_url(redis_url) as server:
        for _ in range(3):
            assert client.get("https://beyond.example/").status_code == 200
        (key,) = server.keys(f"{PREFIX}*")
        lane = loaded(server.get(key) or b"")
    assert (lane.total, lane.known) == (3, 3)
    assert clock.slept == []


# --- stores -----------------------------------------------------------------------------------------------------------


@dataclass
class Between:
    """A client between a lane and a real redis: its answers can be lost after the store has acted, or be held."""

    client: Any
    loses: int = 0
    held: threading.Event = field(default_factory=threading.Event)
    asked: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.held.set()

    def register_script(self, text: str) -> Callable[..., Any]:
        script = self.client.register_script(text)

        def run(keys: list[str], args: list[Any]) -> Any:
            found = script(keys=keys, args=args)
            self.asked.set()
            assert self.held.wait(10.0)
            if self.loses and found[0] == 1:
                self.loses -= 1
                raise TimeoutError("the answer came too late")
            return found

        return run


@pytest.fixture
def between(redis_url: str) -> Any:
    with Redis.from_url(redis_url) as client:
        yield Between(client)


def test_a_turn_that_the_store_gave_too_late_is_not_given_twice(between: Between) -> None:
    lane = Shared(lambda: between, "k", patience=5.0, clock=FakeClock())
    between.loses = 1
    assert lane.enter(turn)[1] is None
    assert lane.enter(turn)[1] is not None
    assert lane._lane.flying == 1


def test_an_answer_that_the_store_took_too_late_lands_nobody_else(between: Between) -> None:
    lane = Shared(lambda: between, "k", patience=5.0, clock=FakeClock())
    first: Any = lane.enter(turn)[1]
    lane.note(lambda lane, now: lane.answered(first, now=now, word=told(5, 4, 60.0)))
    second: Any = lane.enter(turn)[1]
    third = lane.enter(turn)[1]
    between.loses = 1
    lane.note(lambda lane, now: lane.answered(second, now=now, word=told(5, 3, 60.0)))
    assert third is not None
    assert lane._lane.flying == 1
    assert loaded(between.client.get(f"{PREFIX}k")).flying == 1


def test_who_must_not_wait_does_not_wait_for_a_thread_that_asks_the_store(between: Between) -> None:
    lane = Shared(lambda: between, "k", patience=5.0, clock=FakeClock())
    ticket = lane.enter(turn)[1]
    assert ticket is not None
    between.asked.clear()
    between.held.clear()
    asking = threading.Thread(target=lambda: lane.enter(turn))
    asking.start()
    try:
        assert between.asked.wait(10.0)
        lane.later(lambda lane, now: lane.failed(ticket, now=now, unsent=True))  # returns, or the test hangs
        assert asking.is_alive()
    finally:
        between.held.set()
        asking.join(10.0)
    assert lane.enter(turn)[1] is not None


async def test_a_turn_that_came_after_its_caller_had_left_goes_back(
    between: Between, redis_url: str, anyio_backend: str
) -> None:
    request: Any = httpx.Request("GET", f"https://left-{anyio_backend}.example/")
    url, pace = str(request.url), Pace(storage=redis_url, patience=60.0)
    shared = pace._lanes.stored(caller_of(request))
    shared._client = lambda: between
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200)

    transport = flexmw.httpx.AsyncTransport(pace, transport=httpx.MockTransport(answer))
    async with httpx.AsyncClient(transport=transport) as client:
        between.held.clear()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.get, url)
                await anyio.to_thread.run_sync(between.asked.wait)
                tasks.cancel_scope.cancel()
        finally:
            between.held.set()
        assert seen == []
        with anyio.fail_after(10.0):
            assert (await client.get(url)).status_code == 200
    assert loaded(between.client.get(shared._key)).flying == 0
