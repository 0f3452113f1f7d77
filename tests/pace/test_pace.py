from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from heapq import heappop, heappush
from itertools import count
from typing import Any

import anyio
import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

import flexmw.httpx
from flexmw.contract import CREDENTIALS
from flexmw.errors import ConfigError
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.pace import Pace
from flexmw.pace.registry import caller_of
from flexmw.ratelimit import RateLimit
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.testing import FakeClock
from tests.app_calls import call, responding
from tests.recorder import Recorder
from tests.servers import Serve

pytestmark = pytest.mark.anyio


class World:
    """A limited server and a paced client in one process, over a clock that nobody waits for."""

    def __init__(self, *rates: str, strategy: str = "fixed-window", **options: Any) -> None:
        self.clock = FakeClock()
        self.app = RateLimit(*rates, strategy=strategy, clock=self.clock, **options).asgi(responding())
        self.pace = Pace(clock=self.clock, max_wait=1000.0)
        self.statuses: list[int] = []

    def client(self, key: str = "sk-1", origin: str = "https://api.example") -> httpx.Client:
        world = self

        class Server(httpx.BaseTransport):
            def handle_request(self, request: httpx.Request) -> httpx.Response:
                token = request.headers["authorization"].removeprefix("Bearer ")
                response = asyncio.run(call(world.app, token))
                world.statuses.append(response.status)
                world.clock.advance(0.001)
                return httpx.Response(response.status, headers=response.headers, content=response.body)

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


def test_clients_of_one_process_share_their_state_and_other_keys_are_not_delayed() -> None:
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


def test_a_server_without_rate_limit_headers_is_not_slowed_down() -> None:
    world = World("1/minute", exempt="/*")
    with world.client() as client:
        for _ in range(50):
            client.get("/")
    assert world.clock.slept == []


def test_a_request_that_continues_a_response_takes_no_turn() -> None:
    world = World("1/minute")
    with world.client() as client:
        assert client.get("/").status_code == 200
        began = world.clock.monotonic()
        client.post("/", headers={"idempotent-stream": '"0f8fad5bd9cb469fa165";from=7'})
        assert world.clock.monotonic() - began < 1.0
        client.post("/")
        assert world.clock.monotonic() - began > 50.0


def test_an_unexpected_refusal_delays_all_requests() -> None:
    world = World("3/minute")
    with world.client() as client:
        client.get("/")
        for _ in range(2):
            asyncio.run(call(world.app, "sk-1"))  # another process uses the same key
        assert client.get("/").status_code == 429
        assert client.get("/").status_code == 200
    assert 59 <= sum(world.clock.slept) <= 61


def test_a_request_is_sent_at_once_when_the_wait_exceeds_max_wait() -> None:
    world = World("1/day")
    with world.client() as client:
        assert [client.get("/").status_code for _ in range(3)] == [200, 429, 429]
    assert world.clock.slept == []


def test_a_transport_error_delays_no_other_request() -> None:
    clock = FakeClock()

    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("nobody there")

    transport = flexmw.httpx.Transport(Pace(clock=clock), transport=httpx.MockTransport(broken), clock=clock)
    with httpx.Client(transport=transport, base_url="https://broken.example") as client:
        for _ in range(3):
            with pytest.raises(httpx.ConnectError):
                client.get("/")
    assert clock.slept == []


def limiters(clock: Clock = SYSTEM) -> dict[str, ASGIApp]:
    """Servers that admit ten requests a second, each counting in its own way and responding with 200."""
    apps: dict[str, ASGIApp] = {
        strategy: RateLimit("10/second", strategy=strategy, headers=("openai",), clock=clock).asgi(responding())
        for strategy in ALGORITHMS
    }
    apps["clock-aligned"] = aligned(10, clock)
    return apps


def aligned(limit: int, clock: Clock) -> ASGIApp:
    """Windows of a second by the clock."""
    turn, counted = 0, 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal turn, counted
        now = clock.now()
        if int(now) > turn:
            turn, counted = int(now), 0
        refused = counted >= limit
        counted += not refused
        left = f"{int((1 - now % 1) * 1000) + 1}ms"
        numbers = {"limit": str(limit), "remaining": str(limit - counted), "reset": left}
        headers = [(f"x-ratelimit-{name}-requests".encode(), value.encode()) for name, value in numbers.items()]
        await send({"type": "http.response.start", "status": 429 if refused else 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    return app


async def test_forty_tasks_at_ten_a_second_are_never_refused_by_any_algorithm(serve: Serve, anyio_backend: str) -> None:
    recorders = {name: Recorder(app) for name, app in limiters().items()}
    urls = [serve(recorder).url for recorder in recorders.values()]
    # No connection is used twice: uvicorn closes idle ones, and one may be chosen again at that very moment.
    inner = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))
    transport = flexmw.httpx.AsyncTransport(Pace(), transport=inner)
    async with httpx.AsyncClient(transport=transport, timeout=60.0) as client:

        async def one(url: str) -> None:
            await client.get(url, headers={"authorization": "Bearer sk-burst"})

        async with anyio.create_task_group() as tasks:
            for url in urls:
                for _ in range(40):
                    tasks.start_soon(one, url)
    for name, recorder in recorders.items():
        assert recorder.statuses == [200] * 40, name


@pytest.mark.parametrize("strategy", ["fixed-window", "sliding-window-counter"])
def test_forty_threads_at_ten_a_second_are_never_refused(serve: Serve, strategy: str) -> None:
    recorder = Recorder(limiters()[strategy])
    inner = httpx.HTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))
    url = serve(recorder).url
    with (
        httpx.Client(transport=flexmw.httpx.Transport(Pace(), transport=inner), timeout=60.0) as client,
        ThreadPoolExecutor(40) as pool,
    ):
        list(pool.map(lambda _: client.get(url), range(40)))
    assert recorder.statuses == [200] * 40
    assert recorder.windows >= 4


class ClockOfTasks(FakeClock):
    """A clock for several tasks: while all of them sleep, time moves to the moment at which the next one wakes."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self._awake = tasks
        self._sleepers: list[tuple[float, int, anyio.Event]] = []
        self._order = count()

    async def asleep(self, seconds: float) -> None:
        woken = anyio.Event()
        heappush(self._sleepers, (self.monotonic() + seconds, next(self._order), woken))
        self.rest()
        await woken.wait()

    def rest(self) -> None:
        """A task has begun to sleep, or has ended."""
        self._awake -= 1
        if not self._awake and self._sleepers:
            at, _, woken = heappop(self._sleepers)
            self.advance(max(0.0, at - self.monotonic()))
            self._awake += 1
            woken.set()


@pytest.mark.parametrize("server", [*ALGORITHMS, "clock-aligned"])
async def test_a_hundred_tasks_at_ten_a_second_take_ten_windows(server: str) -> None:
    clock = ClockOfTasks(100)
    app, statuses = limiters(clock)[server], []

    class Server(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await clock.asleep(0.001)
            response = await call(app, "sk-burst")
            statuses.append(response.status)
            await clock.asleep(0.001)
            return httpx.Response(response.status, headers=response.headers, content=response.body)

    transport = flexmw.httpx.AsyncTransport(Pace(clock=clock), transport=Server(), clock=clock)
    began = clock.monotonic()
    async with httpx.AsyncClient(transport=transport, headers={"authorization": "Bearer sk-burst"}) as client:

        async def one() -> None:
            await client.get("https://api.example/v1/x")
            clock.rest()

        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(one)
    assert statuses == [200] * 100
    assert clock.monotonic() - began <= 10.0 + 10 * 0.04  # each window may begin late: latencies, a poll, a margin


@pytest.mark.parametrize(
    ("limit", "remaining", "window"),
    [
        ("ratelimit-limit: 5;w=10", "ratelimit-remaining: {};w=10", 10),
        ("x-ratelimit-limit-req-minute: 5", "x-ratelimit-remaining-req-minute: {}", 60),
        ('ratelimit-policy: "a";q=5;w=10', 'ratelimit: "a";r={}', 10),
    ],
)
@pytest.mark.parametrize("moving", [False, True])
async def test_a_limit_that_names_its_window_and_no_reset_is_never_exceeded(
    limit: str, remaining: str, window: int, moving: bool
) -> None:
    clock = ClockOfTasks(23)
    arrivals: list[float] = []
    statuses: list[int] = []

    class Server(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await clock.asleep(0.01)
            now = clock.now()
            begins = now - window if moving else now // window * window
            left = 5 - sum(at > begins if moving else at >= begins for at in arrivals)
            if left:
                arrivals.append(now)
            statuses.append(200 if left else 429)
            lines = (limit, remaining.format(max(0, left - 1)))
            await clock.asleep(0.01)
            return httpx.Response(statuses[-1], headers=dict(line.split(": ", 1) for line in lines))

    transport = flexmw.httpx.AsyncTransport(Pace(clock=clock), transport=Server(), clock=clock)
    began = clock.monotonic()
    async with httpx.AsyncClient(transport=transport, headers={"authorization": "Bearer sk-window"}) as client:

        async def one() -> None:
            await client.get("https://api.example/v1/x")
            clock.rest()

        async with anyio.create_task_group() as tasks:
            for _ in range(23):
                tasks.start_soon(one)
    assert statuses == [200] * 23
    assert clock.monotonic() - began <= 5 * window


@pytest.mark.parametrize("options", [{"patience": -1}, {"max_wait": "long"}])
def test_an_option_that_cannot_work_is_refused(options: Any) -> None:
    make: Callable[..., Pace] = Pace
    with pytest.raises(ConfigError, match="a number of seconds"):
        make(**options)


@pytest.mark.parametrize("header", CREDENTIALS)
def test_requests_count_together_by_origin_and_credential(header: str) -> None:
    one, same, other = (httpx.Request("GET", "https://api.test/x", headers={header: key}) for key in "aab")
    elsewhere = httpx.Request("GET", "https://other.test/x", headers={header: "a"})
    assert caller_of(one) == caller_of(same)
    assert len({caller_of(each) for each in (one, other, elsewhere, httpx.Request("GET", "https://api.test/x"))}) == 4


def test_requests_that_are_signed_one_by_one_count_together() -> None:
    """The API of X limits such requests. Each one was a caller of its own, so Pace never knew a limit."""
    signed = 'OAuth oauth_consumer_key="k", oauth_token="t", oauth_nonce="{0}", oauth_signature="{0}"'
    requests = (httpx.Request("GET", "https://api.test/x", headers={"authorization": signed.format(n)}) for n in "123")
    assert len({caller_of(request) for request in requests}) == 1


@pytest.mark.parametrize("header", ["OpenAI-Organization", "OpenAI-Project", "X-Goog-User-Project"])
def test_one_credential_has_limits_for_each_account(header: str) -> None:
    credential = {"authorization": "Bearer sk-1"}
    accounts = [{}, {header: "one"}, {header: "two"}, {header: "one", "x-project": "a", "user-agent": "b"}]
    callers = [caller_of(httpx.Request("GET", "https://api.test/x", headers=credential | each)) for each in accounts]
    assert len(set(callers)) == 3
    assert callers[1] == callers[3]


@pytest.mark.parametrize(
    ("status", "headers", "waits"),
    [
        (503, {}, 0),
        (503, {"retry-after": "7"}, 7),
        (503, {"retry-after-ms": "7000"}, 7),
        (429, {"retry-after": "7"}, 7),
        (429, {}, 30),
    ],
)
def test_an_overload_is_no_refusal_until_the_limit_resets(status: int, headers: dict[str, str], waits: float) -> None:
    clock = FakeClock()
    limit = {"x-ratelimit-limit": "60", "x-ratelimit-remaining": "59", "x-ratelimit-reset": "30s"}
    responses = iter([httpx.Response(status, headers=limit | headers)])
    server = httpx.MockTransport(lambda request: next(responses, httpx.Response(200, headers=limit)))
    transport = flexmw.httpx.Transport(Pace(clock=clock), transport=server, clock=clock)
    with httpx.Client(transport=transport) as client:
        assert [client.get("http://api.example/models").status_code for _ in range(2)] == [status, 200]
    assert sum(clock.slept) == pytest.approx(waits, abs=0.01)


@pytest.mark.parametrize(
    ("headers", "extensions", "waits"),
    [
        ({}, {}, 3),
        ({"age": "0"}, {}, 3),
        ({"age": "7"}, {}, 0),
        ({}, {"caching": {"from_cache": True}}, 0),
        ({}, {"caching": {"from_cache": False}}, 3),
        ({}, {"hishel_from_cache": True}, 0),
    ],
)
def test_what_a_cached_response_says_of_a_limit_is_out_of_date(
    headers: dict[str, str], extensions: dict[str, Any], waits: int
) -> None:
    clock = FakeClock()
    used_up = {"x-ratelimit-limit": "9", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "30s", **headers}
    server = httpx.MockTransport(lambda request: httpx.Response(200, headers=used_up, extensions=extensions))
    transport = flexmw.httpx.Transport(Pace(clock=clock), transport=server, clock=clock)
    with httpx.Client(transport=transport) as client:
        for _ in range(4):
            assert client.get("http://api.example/models").status_code == 200
    assert len(clock.slept) == waits
