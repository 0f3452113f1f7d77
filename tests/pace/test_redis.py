"""Pace with a shared store: several processes, a real redis, a real server, and a store that fails."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import httpx
import pytest
from redis import Redis

import flexmw.httpx
from flexmw.errors import ConfigError
from flexmw.kit.store_url import SCHEMES, schemes_of
from flexmw.pace import Pace
from flexmw.pace.core import PaceState
from flexmw.pace.headers import read_limit
from flexmw.pace.redis import PREFIX, SharedState, load
from flexmw.pace.window import RateReading
from flexmw.ratelimit import RateLimit
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.ratelimit.core import SECOND
from flexmw.ratelimit.rates import parse_rates
from flexmw.testing import FakeClock
from tests.app_calls import responding
from tests.pace.simulation import EPOCH, Counted, Simulation
from tests.pace.states import turn
from tests.processes import Program, programs
from tests.recorder import Recorder
from tests.servers import HOST, Child, Serve

pytestmark = pytest.mark.anyio


MODES = ("asyncio", "trio", "threads", "asyncio")


@pytest.fixture(scope="module")
def processes() -> Iterator[list[Program]]:
    with programs("tests.pace.client_process", number=len(MODES)) as started:
        yield started


@pytest.mark.parametrize("strategy", ALGORITHMS)
def test_four_processes_that_share_a_store_are_never_refused(
    processes: list[Program], serve: Serve, redis_url: str, strategy: str
) -> None:
    recorder = Recorder(RateLimit("10/second", strategy=strategy, headers=("openai",)).asgi(responding()))
    url = serve(recorder).url
    for process, mode in zip(processes, MODES, strict=True):
        process.send(json.dumps([url, redis_url, 10, mode]))
    assert [process.receive() for process in processes] == ["ready"] * 4
    for process in processes:
        process.send("go")
    assert [json.loads(process.receive()) for process in processes] == [[200] * 10] * 4
    assert recorder.statuses == [200] * 40
    assert recorder.windows >= 4  # a busy machine needs more: the test below holds the upper bound on a fake clock
    _keeps_no_secret_and_nothing_for_ever(redis_url)


def _keeps_no_secret_and_nothing_for_ever(redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        keys = redis.keys("*")
        assert len(keys) == 1
        assert keys[0].startswith(PREFIX.encode())
        assert 0 < redis.ttl(keys[0]) <= 600
        assert b"canary" not in keys[0] + redis.get(keys[0])
        assert HOST.encode() not in keys[0] + redis.get(keys[0])


def test_processes_share_what_one_of_them_has_learned(serve: Serve, redis_url: str) -> None:
    url = serve(RateLimit("2/hour").asgi(responding())).url
    one, two = FakeClock(), FakeClock()  # two clocks act as two processes: they share nothing but the store
    for clock, status in ((one, 200), (two, 200), (one, 429)):
        pace = Pace(storage=redis_url, clock=clock, max_wait=1.0)
        with httpx.Client(transport=flexmw.httpx.Transport(pace, clock=clock)) as client:
            assert client.get(url).status_code == status
        assert clock.slept == []


@pytest.fixture
def black_hole() -> Any:
    """A port that accepts connections and never responds."""
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        listening.listen(50)
        yield f"redis://{HOST}:{listening.getsockname()[1]}"


@pytest.fixture(params=["silent", "closed", "frozen"])
def dead(request: pytest.FixtureRequest, black_hole: str, redis_server: Child) -> Any:
    if request.param == "silent":
        yield black_hole
    elif request.param == "closed":
        with socket.socket() as unused:
            unused.bind((HOST, 0))
            yield f"redis://{HOST}:{unused.getsockname()[1]}"
    else:
        with redis_server.frozen():
            yield redis_server.url


async def test_without_its_store_a_process_paces_alone_after_a_tenth_of_a_second(
    serve: Serve, dead: str, anyio_backend: str
) -> None:
    url = serve(RateLimit("3/second", headers=("openai",)).asgi(responding())).url
    transport = flexmw.httpx.AsyncTransport(Pace(storage=dead))
    async with httpx.AsyncClient(transport=transport) as client:
        began = time.monotonic()
        assert (await client.get(url)).status_code == 200
        assert time.monotonic() - began < 4.0  # a tenth of a second, plus what a busy machine adds
        statuses: list[int] = []

        async def one() -> None:
            statuses.append((await client.get(url)).status_code)

        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(one)
        assert statuses == [200] * 6


class Store:
    """A redis client whose script runs in this process, with a clock of its own. It can be switched off."""

    def __init__(self) -> None:
        self.value, self.alive, self.asked, self.time = b"", True, 0, 5_000_000_000.0

    def register_script(self, script: str) -> Callable[..., Any]:
        return self

    def __call__(self, keys: list[str], args: list[Any]) -> list[Any]:
        self.asked += 1
        if not self.alive:
            raise ConnectionError("gone")
        if self.value == args[0]:
            self.value = args[1]
            return [1]
        return [0, self.value, str(int(self.time)), "0"]


@pytest.mark.parametrize("strategy", ALGORITHMS)
def test_four_processes_that_share_a_store_lose_no_window(strategy: str) -> None:
    """Forty requests at ten a second: on a fake clock, whatever else the machine does."""
    store, clock = Store(), FakeClock()
    began, epoch = clock.monotonic(), store.time
    limiter = Simulation(strategy, "10/second")
    counted = Counted(parse_rates("10/second")[0], strategy)
    states = [SharedState(lambda: store, "k", patience=5.0, clock=clock) for _ in MODES]
    calls = [(began, number) for number in range(40)]
    while calls:
        calls.sort()
        at, number = calls.pop(0)
        clock.advance(max(0.0, at - clock.monotonic()))
        store.time = epoch + clock.monotonic() - began
        wait, flight = states[number % len(states)].enter(turn)
        if wait:
            calls.append((clock.monotonic() + wait, number))
            continue
        server_time = int((EPOCH + clock.monotonic() - began) * SECOND)
        refused, remaining, reset = counted(server_time)
        assert not refused
        sent_at = EPOCH + clock.monotonic() - began
        clock.advance(0.001)
        headers = limiter.headers(counted.rate, server_time, remaining, reset)
        reading, _ = read_limit(headers, sent_at, sent_at + 0.001, None)
        states[number % len(states)].record(
            lambda state, now, flight=flight, reading=reading: state.finish(flight, now=now, reading=reading)
        )
    # Three windows follow the first; a sliding window counter frees its last requests one by one.
    assert clock.monotonic() - began < (6.1 if strategy == "sliding-window-counter" else 3.1)


def test_after_two_failures_the_store_is_not_asked_for_a_second() -> None:
    store, clock = Store(), FakeClock()
    store.alive = False
    shared = SharedState(lambda: store, "k", patience=5.0, clock=clock)
    assert shared.enter(turn) == (pytest.approx(0.001), None)
    wait, flight = shared.enter(turn)
    assert (wait, store.asked) == (0.0, 2)
    assert flight is not None
    shared.record(lambda state, now: state.finish(flight, now=now, reading=RateReading(3, 2, 59.0, 60.0, 59.0)))
    assert store.asked == 2
    assert shared.enter(turn)[1] is not None
    assert store.asked == 2
    clock.advance(1.1)
    shared.enter(turn)
    assert store.asked == 3


def test_changes_made_without_the_store_are_written_when_it_is_back() -> None:
    store, clock = Store(), FakeClock()
    alone, other = (SharedState(lambda: store, "k", patience=5.0, clock=clock) for _ in range(2))
    _, flight = alone.enter(turn)
    alone.record(lambda state, now: state.finish(flight, now=now, reading=RateReading(3, 2, 59.0, 60.0, 59.0)))
    store.alive = False
    alone.enter(turn)
    _, second = alone.enter(turn)
    assert second is not None
    store.alive = True
    clock.advance(1.1)
    assert alone.enter(turn)[1] is not None
    assert other.enter(turn)[0] > 50  # three of three are taken


def test_a_response_that_cannot_be_recorded_is_tried_twice_and_then_kept() -> None:
    store, clock = Store(), FakeClock()
    shared = SharedState(lambda: store, "k", patience=5.0, clock=clock)
    _, flight = shared.enter(turn)
    store.alive, store.asked = False, 0
    shared.record(lambda state, now: state.finish(flight, now=now, reading=RateReading(1, 0, 59.0, 60.0, 59.0)))
    assert store.asked == 2
    store.alive = True
    clock.advance(1.1)
    assert SharedState(lambda: store, "k", patience=5.0, clock=clock).enter(turn)[0] < 1  # not in the store yet
    assert shared.enter(turn)[0] > 50


def test_lost_compare_and_swaps_count_as_a_failure_after_a_quarter_of_a_second() -> None:
    store, clock = Store(), FakeClock()
    shared = SharedState(lambda: store, "k", patience=5.0, clock=clock)

    def others_are_faster(state: PaceState, now: float) -> tuple[float, Any]:
        store.value += b" "
        clock.advance(0.1)
        return turn(state, now)

    assert shared.enter(others_are_faster) == (pytest.approx(0.001), None)


def test_a_failed_call_sends_no_command_for_its_failure(redis_url: str) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("no response")

    clock = FakeClock()
    transport = flexmw.httpx.Transport(
        Pace(storage=redis_url, clock=clock), transport=httpx.MockTransport(fail), clock=clock
    )
    with (
        httpx.Client(transport=transport, base_url="https://failing.example") as client,
        Redis.from_url(redis_url) as it,
    ):
        with pytest.raises(httpx.ReadTimeout):
            client.get("/")
        asked = it.info("commandstats")["cmdstat_evalsha"]["calls"]
        with pytest.raises(httpx.ReadTimeout):
            client.get("/")
        assert it.info("commandstats")["cmdstat_evalsha"]["calls"] - asked == 2  # a read and a write, for its turn


def test_an_emptied_store_gets_the_state_of_the_process() -> None:
    store, clock = Store(), FakeClock()
    shared = SharedState(lambda: store, "k", patience=5.0, clock=clock)
    _, flight = shared.enter(turn)
    shared.record(lambda state, now: state.finish(flight, now=now, reading=RateReading(1, 0, 59.0, 60.0, 59.0)))
    store.value = b""
    assert shared.enter(turn)[0] > 50


def test_a_reset_in_the_far_future_does_not_break_the_time_to_live(redis_url: str) -> None:
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
        state = load(server.get(key) or b"")
    assert (state.sent, state.finished) == (3, 3)
    assert clock.slept == []


def test_a_process_that_has_to_wait_does_not_ask_the_store_again() -> None:
    store, clock = Store(), FakeClock()
    shared = SharedState(lambda: store, "k", patience=5.0, clock=clock)
    _, flight = shared.enter(turn)
    assert shared.known_wait == 0.0
    wait, _ = shared.enter(turn)
    assert shared.known_wait == pytest.approx(wait)
    shared.record_later(lambda state, now: state.fail(flight, now=now))
    shared.record(lambda state, now: None)
    assert shared.known_wait == 0.0


@pytest.mark.parametrize("scheme", schemes_of("redis", "redis+cluster"))
def test_every_scheme_of_redis_and_valkey_can_be_shared(scheme: str) -> None:
    url = f"{scheme}:///run/store.sock" if SCHEMES[scheme].unix else f"{scheme}://127.0.0.1:6379"
    assert Pace(storage=url).storage == url


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"storage": "memcached://localhost"}, "redis"),
        ({"storage": "redis://:secret@localhost:99999"}, "a port"),
        ({"storage": 3}, "a storage URL"),
        ({"pepper": ""}, "pepper"),
    ],
)
def test_a_store_that_cannot_be_shared_is_refused(options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as failure:
        Pace(**options)
    assert "secret" not in str(failure.value)


def test_the_password_of_a_store_is_not_shown() -> None:
    assert "secret" not in repr(Pace(storage="redis://:secret@localhost"))
