from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flexmw.httpx
from flexmw.contract import Seen
from flexmw.errors import ConfigError
from flexmw.ratelimit import Pace, RateLimit
from flexmw.ratelimit.lane import POLL, Lane
from flexmw.testing import FakeClock
from tests.ratelimit.calls import answering, call
from tests.servers import Serve

pytestmark = pytest.mark.anyio


class World:
    """A limited server and a paced client in one process, over a clock that nobody waits for."""

    def __init__(self, *rates: str, strategy: str = "fixed-window", **options: Any) -> None:
        self.clock = FakeClock()
        self.app = RateLimit(*rates, strategy=strategy, clock=self.clock, **options).asgi(answering())
        self.pace = Pace(clock=self.clock, max_wait=1000.0)
        self.statuses: list[int] = []

    def client(self, key: str = "sk-1", origin: str = "https://api.example") -> httpx.Client:
        world = self

        class Server(httpx.BaseTransport):
            def handle_request(self, request: httpx.Request) -> httpx.Response:
                token = request.headers["authorization"].removeprefix("Bearer ")
                answer = asyncio.run(call(world.app, token))
                world.statuses.append(answer.status)
                world.clock.advance(0.001)
                return httpx.Response(answer.status, headers=answer.headers, content=answer.body)

        transport = flexmw.httpx.Transport(self.pace, transport=Server(), clock=self.clock)
        return httpx.Client(transport=transport, base_url=origin, headers={"authorization": f"Bearer {key}"})


@pytest.mark.parametrize(
    ("strategy", "windows"), [("fixed-window", 5), ("moving-window", 5), ("sliding-window-counter", 5), ("gcra", 5)]
)
def test_fifty_calls_take_the_least_time_that_the_limit_allows_without_one_refusal(strategy: str, windows: int) -> None:
    world = World("10/minute", strategy=strategy)
    began = world.clock.monotonic()
    with world.client() as client:
        for _ in range(50):
            assert client.get("/").status_code == 200
    assert world.statuses == [200] * 50
    # Headers have whole seconds, rounded up: each window may be seen one second late.
    assert world.clock.monotonic() - began <= (windows - 1) * 61 + 60


def test_clients_of_one_process_share_what_they_know_and_other_keys_are_not_held_up() -> None:
    world = World("5/minute")
    with world.client() as one, world.client() as two, world.client("sk-2") as other:
        for client in (one, two) * 5:
            client.get("/")
        took = sum(world.clock.slept)
        assert 59 <= took <= 62
        for _ in range(5):
            other.get("/")
        assert sum(world.clock.slept) == took
    assert set(world.statuses) == {200}


def test_a_server_without_such_headers_is_not_slowed_down() -> None:
    world = World("1/minute", exempt="/*")
    with world.client() as client:
        for _ in range(50):
            client.get("/")
    assert world.clock.slept == []


def test_a_refusal_that_comes_all_the_same_holds_back_everybody() -> None:
    world = World("3/minute")
    with world.client() as client:
        client.get("/")
        for _ in range(2):
            asyncio.run(call(world.app, "sk-1"))  # another process uses the same key
        assert client.get("/").status_code == 429
        assert client.get("/").status_code == 200
    assert 59 <= sum(world.clock.slept) <= 61


def test_a_wait_that_is_too_long_is_left_to_the_server_to_refuse() -> None:
    world = World("1/day")
    with world.client() as client:
        assert [client.get("/").status_code for _ in range(3)] == [200, 429, 429]
    assert world.clock.slept == []


def test_an_error_on_the_way_holds_nobody_up() -> None:
    clock = FakeClock()

    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("nobody there")

    transport = flexmw.httpx.Transport(Pace(clock=clock), transport=httpx.MockTransport(broken), clock=clock)
    with httpx.Client(transport=transport, base_url="https://broken.example") as client:
        for _ in range(3):
            with pytest.raises(httpx.ConnectError):
                client.get("/")
    assert clock.slept == []


@pytest.mark.parametrize("strategy", ["fixed-window", "sliding-window-counter"])
async def test_a_burst_of_tasks_is_never_refused_by_a_real_server(
    serve: Serve, strategy: str, anyio_backend: str
) -> None:
    served = serve(RateLimit("10/2 second", strategy=strategy, headers=("openai",)).asgi(answering()))
    transport = flexmw.httpx.AsyncTransport(Pace())
    statuses: list[int] = []
    began = time.monotonic()
    async with httpx.AsyncClient(transport=transport, headers={"authorization": "Bearer sk-burst"}) as client:

        async def one() -> None:
            statuses.append((await client.get(served.url)).status_code)

        async with anyio.create_task_group() as tasks:
            for _ in range(25):
                tasks.start_soon(one)
    assert statuses == [200] * 25
    assert time.monotonic() - began >= 3.0  # ten at once, ten in the second window, five in the third


def test_a_burst_of_threads_is_never_refused_by_a_real_server(serve: Serve) -> None:
    served = serve(RateLimit("10/second", strategy="fixed-window", headers=("openai",)).asgi(answering()))
    with httpx.Client(transport=flexmw.httpx.Transport(Pace())) as client, ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(lambda _: client.get(served.url).status_code, range(40)))
    assert statuses == [200] * 40


def test_out_of_order_answers_can_only_lower_what_is_left() -> None:
    lane = Lane(patience=5.0)
    assert lane.ask(0.0) == 0.0
    lane.answered(sent_at=0.0, now=0.1, seen=Seen(5, 4, 60.0), wait=None)
    assert [lane.ask(0.2) for _ in range(4)] == [0.0] * 4
    lane.answered(sent_at=0.2, now=0.3, seen=Seen(5, 0, 60.0), wait=None)
    for remaining in (3, 1, 2):
        lane.answered(sent_at=0.2, now=0.4, seen=Seen(5, remaining, 60.0), wait=None)
    assert lane.ask(0.5) > 50


def test_those_who_wait_for_a_first_answer_lose_patience() -> None:
    lane = Lane(patience=2.0)
    assert lane.ask(0.0) == 0.0
    assert lane.ask(1.9) == POLL
    assert lane.ask(2.1) == 0.0


def test_an_answer_that_was_sent_for_before_the_window_ended_says_nothing_about_the_next() -> None:
    lane = Lane(patience=5.0)
    lane.ask(0.0)
    lane.answered(sent_at=0.0, now=0.1, seen=Seen(2, 1, 10.0), wait=None)
    assert lane.ask(0.2) == 0.0
    assert lane.ask(10.2) == 0.0
    lane.answered(sent_at=0.2, now=10.3, seen=Seen(2, 0, 10.0), wait=None)
    assert lane.ask(10.4) in (0.0, POLL)


def test_headers_without_a_limit_are_enough() -> None:
    lane = Lane(patience=5.0)
    lane.ask(0.0)
    lane.answered(sent_at=0.0, now=0.1, seen=Seen(None, 2, 10.0), wait=None)
    assert [lane.ask(0.2) for _ in range(3)] == [0.0, 0.0, pytest.approx(9.91)]


@given(
    st.lists(st.tuples(st.floats(0, 20), st.booleans()), max_size=60), st.integers(1, 5), st.sampled_from([1.0, 7.5])
)
def test_a_fixed_window_is_never_overrun_whatever_the_arrivals(
    arrivals: list[tuple[float, bool]], limit: int, window: float
) -> None:
    lane, now, ends, count = Lane(patience=5.0), 0.0, 0.0, 0
    for gap, waits in arrivals:
        now += gap
        wait = lane.ask(now)
        while wait and waits:
            now += wait
            wait = lane.ask(now)
        if wait:
            continue
        if now >= ends:
            ends, count = now + window, 0
        count += 1
        assert count <= limit
        lane.answered(sent_at=now, now=now + 0.001, seen=Seen(limit, limit - count, ends - now), wait=None)
        now += 0.001


@pytest.mark.parametrize("options", [{"patience": -1}, {"max_wait": "long"}])
def test_an_option_that_cannot_work_is_refused(options: Any) -> None:
    make: Callable[..., Pace] = Pace
    with pytest.raises(ConfigError, match="a number of seconds"):
        make(**options)
