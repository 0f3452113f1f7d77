from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot
from starlette.types import Message, Receive, Scope, Send

from flexmw.errors import ConfigError
from flexmw.kit.store_url import parse
from flexmw.ratelimit import RateLimit
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.ratelimit.asgi import RateLimitMiddleware
from flexmw.ratelimit.backend import LocalBackend
from flexmw.ratelimit.core import Slot
from flexmw.ratelimit.rates import parse_rates
from flexmw.ratelimit.stores.memory import MemoryStore
from flexmw.ratelimit.stores.redis import RedisStore
from flexmw.testing import FakeClock
from tests.processes import Program, programs
from tests.ratelimit.calls import (
    Answer,
    Make,
    answering,
    ask,
    call,
    check_of,
    count_timeouts,
    limited,
    limiters,
    scope_of,
)
from tests.servers import Child
from tests.waiting import LONGEST_WAIT, eventually

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
NAMES = sorted(ALGORITHMS)
ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"])


def slots_of(app: RateLimitMiddleware) -> int:
    """How many slots this process's memory has given out."""
    assert isinstance(app.backend, LocalBackend)
    store: Any = app.backend.store
    return sum(map(len, store._holders.values()))


class Gate:
    """An app that holds every request of ``/held`` until it is opened."""

    def __init__(self) -> None:
        self.entered = anyio.Event()
        self.opened = anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/held":
            self.entered.set()
            await self.opened.wait()
        await answering()(scope, receive, send)


async def raising(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError


# --- memory: both backends --------------------------------------------------------------------------------------------


async def test_concurrent_requests_are_limited_and_a_refused_one_may_return_in_a_second() -> None:
    gate = Gate()
    app = limited(app=gate, concurrency=2)
    refused: list[Answer] = []
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(lambda: call(app, path="/held"))
        await gate.entered.wait()
        await anyio.wait_all_tasks_blocked()
        refused.append(await call(app))
        assert (await call(app, "sk-2")).status == 200
        gate.opened.set()
    assert (await call(app)).status == 200
    answer = refused[0]
    assert (answer.status, answer.error["code"], answer["retry-after"]) == (429, "rate_limit_exceeded", "1")
    assert answer.quota[:2] == (2, 0)
    assert slots_of(app) == 0


async def test_a_request_without_a_free_slot_takes_nothing_from_its_rates_and_vice_versa() -> None:
    gate, clock = Gate(), FakeClock()
    app = limited("2/minute", app=gate, concurrency=1, clock=clock, strategy="fixed-window")
    answers: list[Answer] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: call(app, path="/held"))
        await gate.entered.wait()
        answers += [await call(app), await call(app)]
        gate.opened.set()
    assert [(answer.status, answer.quota[:2], answer["retry-after"]) for answer in answers] == [(429, (2, 1), "1")] * 2
    assert (await call(app)).quota[1] == 0
    refused = await call(app)
    assert (refused.status, refused["retry-after"]) == (429, "60")
    assert slots_of(app) == 0


async def test_the_next_request_of_a_caller_who_has_seen_the_end_finds_the_slot_free() -> None:
    statuses: list[int] = []

    async def lingering(scope: Scope, receive: Receive, send: Send) -> None:
        await answering()(scope, receive, send)
        await anyio.lowlevel.checkpoint()  # work that goes on in the background

    app = limited(app=lingering, concurrency=1)

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            statuses.append((await call(app, "sk-1")).status)

    async def receive() -> Message:
        return {"type": "http.request"}

    await app(scope_of(), receive, send)
    assert statuses == [200]


async def test_a_stream_holds_its_slot_to_the_last_chunk() -> None:
    held: list[int] = []

    async def streaming(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(3):
            held.append(slots_of(app))
            await send({"type": "http.response.body", "body": b"x", "more_body": number < 2})
            held.append(slots_of(app))

    app = limited(app=streaming, concurrency=1)
    await call(app)
    assert held == [1, 1, 1, 1, 1, 0]


async def test_a_websocket_holds_a_slot_while_it_is_open() -> None:
    opened, closing = anyio.Event(), anyio.Event()

    async def chat(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        opened.set()
        await closing.wait()
        await send({"type": "websocket.close", "code": 1000})

    app = limited(app=chat, concurrency=1)
    denied: list[Answer] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: ask(app, {**scope_of(), "type": "websocket"}))
        await opened.wait()
        denied.append(await ask(app, {**scope_of(), "type": "websocket"}))
        closing.set()
    assert denied[0].messages == [{"type": "websocket.close", "code": 1008, "reason": "rate_limit_exceeded"}]
    assert slots_of(app) == 0


async def test_whatever_ends_a_request_gives_its_slot_back() -> None:
    gate = Gate()
    app, broken = limited(app=gate, concurrency=1), limited(app=raising, concurrency=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: call(app, path="/held"))
        await gate.entered.wait()
        assert slots_of(app) == 1
        tasks.cancel_scope.cancel()
    assert slots_of(app) == 0
    with pytest.raises(RuntimeError):
        await call(broken)
    assert slots_of(broken) == 0


async def test_explain_shadow_and_exempt_cover_slots() -> None:
    gate = Gate()
    app = limited(app=gate, concurrency=1, shadow=True, exempt="/health")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: call(app, path="/held"))
        await gate.entered.wait()
        seen = await app.explain(scope_of())
        assert seen is not None
        assert (seen.allowed, seen.limit, seen.unit, seen.policy) == (False, 1, "concurrent-requests", "1 at once")
        assert (await call(app)).status == 200
        assert (await call(app, path="/health")).status == 200
        assert slots_of(app) == 1
        gate.opened.set()
    seen = await app.explain(scope_of())
    assert seen is not None
    assert (seen.allowed, seen.remaining) == (True, 1)
    assert slots_of(app) == 0


@pytest.mark.parametrize("dialect", ["seed", "openai", "ietf"])
async def test_every_header_style_reports_a_refusal_by_slots(dialect: str) -> None:
    gate = Gate()
    app = limited(app=gate, concurrency=3, headers=(dialect,), clock=FakeClock(now=1_800_000_000.0))
    answers: list[Answer] = []
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(lambda: call(app, path="/held"))
        await gate.entered.wait()
        await anyio.wait_all_tasks_blocked()
        answers.append(await call(app))
        gate.opened.set()
    names = {
        "seed": ("x-ratelimit-reset-requests", "1800000001"),
        "openai": ("x-ratelimit-reset-requests", "1s"),
        "ietf": ("ratelimit-policy", '"3 at once";q=3;qu="concurrent-requests"'),
    }
    name, value = names[dialect]
    assert answers[0][name] == value


@given(
    most=st.integers(1, 4),
    steps=st.lists(st.one_of(st.just(None), st.integers(0, 9)), max_size=40),
    rate=st.integers(1, 30),
)
def test_holders_never_pass_the_number_and_every_free_slot_can_be_had(
    most: int, steps: list[int | None], rate: int
) -> None:
    memory, rates = MemoryStore(ALGORITHMS["fixed-window"]), parse_rates(f"{rate}/day")
    held: list[Slot] = []
    taken = 0
    for number, step in enumerate(steps):
        if step is None:
            slot = Slot(f"{number}", most, 1)
            said = memory.decide(check_of("caller", rates, 1, slot=slot))
            assert (said.wait_us == 0) == (len(held) < most and taken < rate)
            if not said.wait_us:
                held.append(slot)
                taken += 1
                assert said.remaining == rate - taken
        elif held:
            memory.release("caller", held.pop(step % len(held)))
    for slot in held:
        memory.release("caller", slot)
        memory.release("caller", slot)
    assert memory._holders == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"concurrency": 0}, "at least 1"),
        ({"concurrency": True}, "at least 1"),
        ({"concurrency": 2, "lease": 0.5}, "at least 1"),
    ],
)
def test_slots_that_cannot_work_are_refused(options: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        RateLimit(**options)


# --- redis ------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def shared(redis_url: str) -> AsyncGenerator[Make]:
    async with limiters(storage=redis_url, store_timeout=LONGEST_WAIT) as make:
        yield make


def leases(server: redis.Redis) -> int:
    return sum(server.zcard(key) for key in server.keys("*slots*"))


@contextmanager
def holders(url: str, number: int, *, most: int, lease: float, requests: int) -> Generator[list[Program]]:
    arguments = (url, str(most), str(lease), str(requests))
    with programs("tests.ratelimit.slot_process", *arguments, number=number) as started:
        for program in started:
            assert program.receive() == "ready"
        yield started


def test_four_processes_hold_exactly_the_number_together(redis_url: str, server: redis.Redis) -> None:
    with holders(redis_url, 4, most=7, lease=60.0, requests=25) as workers:
        for worker in workers:
            worker.send("go")
        outcomes = [outcome for worker in workers for outcome in json.loads(worker.receive())]
        assert (outcomes.count(0), outcomes.count(429)) == (7, 93)
        assert leases(server) == 7
        for worker in workers:
            worker.send("go")
        assert [worker.receive() for worker in workers] == ["over"] * 4
    assert leases(server) == 0


def test_the_slots_of_a_process_that_is_killed_are_free_after_the_lease(redis_url: str, server: redis.Redis) -> None:
    def now_ms() -> float:
        seconds, micros = server.time()
        return float(seconds * 1000 + micros / 1000)

    def ends_ms() -> list[float]:
        (key,) = server.keys("*slots*")
        return [score for _, score in server.zrange(key, 0, -1, withscores=True)]

    with holders(redis_url, 1, most=3, lease=1.5, requests=3) as (worker,):
        worker.send("go")
        assert json.loads(worker.receive()) == [0, 0, 0]
        began_ms = now_ms()
        eventually(lambda: min(ends_ms()) > began_ms + 3000)  # they are renewed for longer than the lease
        assert len(ends_ms()) == 3
        worker.kill()
        killed_ms, free_ms = now_ms(), min(ends_ms())
        assert 0 < free_ms - killed_ms <= 1500

        async def until_free() -> None:
            app = limited(storage=redis_url, concurrency=3, lease=1.5, store_timeout=LONGEST_WAIT)
            assert (await call(app, "the caller")).status == 429
            while (await call(app, "the caller")).status == 429:  # noqa: ASYNC110 - the server's clock has no event
                await asyncio.sleep(0.02)
            await app.close()

        asyncio.run(until_free())
        assert now_ms() >= free_ms
    eventually(lambda: server.keys("*slots*") == [])


@ASYNCIO
@pytest.mark.parametrize("strategy", NAMES)
async def test_rates_and_slot_are_one_command_and_the_slot_s_return_is_one(
    shared: Make, server: redis.Redis, strategy: str
) -> None:
    app = shared("9/minute", "20/day", strategy=strategy, concurrency=2)
    await call(app, "warm")
    with server.monitor() as monitor:
        assert [(await call(app)).quota[1] for _ in range(3)] == [8, 7, 6]
        server.execute_command("PING")
        commands = []
        for entry in monitor.listen():
            if entry["command"].startswith("PING"):
                break
            if entry["client_type"] != "lua":
                commands.append(entry["command"].split()[0])
    assert [command for command in commands if command in ("EVALSHA", "EVAL", "ZREM")] == ["EVALSHA", "ZREM"] * 3
    assert leases(server) == 0


@ASYNCIO
async def test_nothing_leaks_over_a_thousand_requests_that_end_in_every_way(shared: Make, server: redis.Redis) -> None:
    async def mixed(scope: Scope, receive: Receive, send: Send) -> None:
        match scope["path"]:
            case "/raise":
                raise RuntimeError
            case "/gone":
                while (await receive())["type"] != "http.disconnect":
                    pass
            case "/wait":
                await asyncio.sleep(30)
        await answering()(scope, receive, send)

    app = shared("10000/day", app=mixed, concurrency=40, tokens="100000000/day", token_cost=10)
    paths = ["/ok", "/raise", "/gone", "/wait", "/scope"]

    async def one(number: int) -> int:
        path, answer = paths[number % 5], Answer()
        messages: Iterator[Message] = iter([{"type": "http.request", "body": b""}, {"type": "http.disconnect"}])

        async def receive() -> Message:
            await asyncio.sleep(0)
            return next(messages)

        async def send(message: Message) -> None:
            answer.status = message.get("status", answer.status)

        scope = scope_of(path={"/scope": "/wait"}.get(path, path))
        task = asyncio.current_task()
        assert task is not None
        try:
            if path == "/wait":
                # Anywhere between the question and the answer.
                asyncio.get_running_loop().call_later(0.002 * (number % 13), task.cancel)
                await app(scope, receive, send)
            elif path == "/scope":
                with anyio.move_on_after(0.002 * (number % 13)):
                    await app(scope, receive, send)
            else:
                await app(scope, receive, send)
        except RuntimeError:
            return 500
        except asyncio.CancelledError:
            task.uncancel()
            return 499
        return answer.status

    turns = asyncio.Semaphore(60)

    async def in_turn(number: int) -> int:
        async with turns:
            return await one(number)

    outcomes = await asyncio.gather(*(in_turn(number) for number in range(1000)))
    assert {200, 429, 499, 500} <= set(outcomes)
    await app.close()  # waits for what cancelled requests left to be carried out
    assert leases(server) == 0


@ASYNCIO
async def test_a_short_request_starts_no_task(shared: Make) -> None:
    seen: list[set[Any]] = []

    async def looking(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(asyncio.all_tasks())
        await answering()(scope, receive, send)

    app = shared(app=looking, concurrency=1)
    before = asyncio.all_tasks()
    await call(app)
    assert seen == [before]


@ASYNCIO
async def test_a_long_request_renews_its_slot_and_stops_when_it_is_over(shared: Make, server: redis.Redis) -> None:
    scores: list[float] = []

    async def long(scope: Scope, receive: Receive, send: Send) -> None:
        (key,) = server.keys("*slots*")
        async with asyncio.timeout(LONGEST_WAIT):
            while len(scores) < 4:
                ((_, score),) = server.zrange(key, 0, -1, withscores=True)
                if score not in scores:
                    scores.append(score)
                await asyncio.sleep(0.02)
        await answering()(scope, receive, send)

    before = asyncio.all_tasks()
    assert (await call(shared(app=long, concurrency=1, lease=1.0))).status == 200
    # Begun anew each third of a second: three times make one lease.
    assert scores[3] - scores[0] >= 900
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert leases(server) == 0


@ASYNCIO
async def test_a_slot_that_the_store_has_lost_is_taken_again_while_its_request_runs(
    shared: Make, server: redis.Redis
) -> None:
    """A server that was restarted without its data, or a failover: the stream still runs, and counts."""

    async def long(scope: Scope, receive: Receive, send: Send) -> None:
        (key,) = server.keys("*slots*")
        ((holder, _),) = server.zrange(key, 0, -1, withscores=True)
        server.delete(key)
        again = None
        async with asyncio.timeout(LONGEST_WAIT):
            while again is None:
                await asyncio.sleep(0.02)
                again = server.zscore(key, holder)
        assert 0 < server.pttl(key) <= 1000
        refused.append((await call(app)).status)
        await answering()(scope, receive, send)

    refused: list[int] = []
    app: Any = shared(app=long, concurrency=1, lease=1.0)
    assert (await call(app)).status == 200
    assert (refused, leases(server)) == ([429], 0)


@ASYNCIO
async def test_closing_waits_for_what_cancelled_requests_left_behind(shared: Make, server: redis.Redis) -> None:
    gate = Gate()
    app = shared(app=gate, concurrency=1)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: call(app, path="/held"))
            await gate.entered.wait()
            assert leases(server) == 1
            scope.cancel()
    await app.close()
    assert leases(server) == 0


@pytest.mark.parametrize("strategy", NAMES)
def test_rates_tokens_and_slots_of_a_caller_lie_on_one_node(redis_url: str, strategy: str) -> None:
    store = RedisStore(ALGORITHMS[strategy], parse(redis_url, "storage"))
    asked: list[str] = []

    class Client:
        async def run_script(self, script: object, number: int, *values: Any) -> None:
            asked.extend(values[:number])
            raise ConnectionError

    store._connect = Client  # type: ignore[method-assign]
    rates = parse_rates(["5/minute", "9/day"]) + parse_rates(["100/minute"], unit="tokens")
    with pytest.raises(ConnectionError):
        anyio.run(lambda: store.decide(check_of("digest", rates, (1, 1, 40), slot=Slot("holder", 3, 60_000_000))))
    assert len(set(asked)) == len(asked) >= 4
    assert len({key_slot(key.encode()) for key in asked}) == 1


@ASYNCIO
async def test_a_slot_that_a_store_granted_after_the_timeout_is_free_when_its_lease_ends(
    shared: Make, redis_server: Child, server: redis.Redis
) -> None:
    app = shared(concurrency=1, lease=1.0, store_timeout=0.2)
    await call(app)
    with redis_server.frozen():
        assert (await call(app)).status == 200  # this process decides alone
    # What the server reads first when it wakes up, the question or the return, nobody knows.
    async with asyncio.timeout(LONGEST_WAIT):
        while True:
            scope = scope_of()
            answer = await ask(app, scope)
            if (answer.status, scope["flexmw"].facts["flexmw.rate_limiting.result"]) == (200, "acquired"):
                break
            await asyncio.sleep(0.05)
    assert leases(server) == 0


@ASYNCIO
async def test_without_its_store_a_process_grants_its_share_of_the_slots(shared: Make) -> None:
    gate = Gate()
    app = shared(app=gate, concurrency=4, storage="redis://127.0.0.1:1", on_store_failure="local/2")
    tasks = [asyncio.create_task(call(app, path="/held")) for _ in range(6)]
    refused = asyncio.as_completed(tasks)
    assert [(await next(refused)).status for _ in range(4)] == [429] * 4
    gate.opened.set()
    assert [(await task).status for task in tasks].count(200) == 2
    assert (await call(app)).status == 200


@ASYNCIO
async def test_a_store_that_never_responds_is_waited_for_once_a_request(
    shared: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = count_timeouts(monkeypatch)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as hole:
        url = f"redis://127.0.0.1:{hole.getsockname()[1]}"
        app = shared(concurrency=1, storage=url, store_timeout=0.2, on_store_failure="local")
        assert (await call(app)).status == 200
        assert len(waits) == 1  # to return the slot, the store is not waited for again
        await app.close()


@ASYNCIO
async def test_a_lease_is_renewed_only_while_it_is_held(redis_url: str, server: redis.Redis) -> None:
    store, slot = RedisStore(ALGORITHMS["gcra"], parse(redis_url, "storage")), Slot("holder", 1, 60_000_000)
    await store.decide(check_of("digest", (), 1, slot=slot))
    (key,) = server.keys("*slots*")
    server.zadd(key, {"holder": 1})
    assert await store.renew("digest", slot)
    assert server.zscore(key, "holder") > 1
    assert 59_000 < server.pttl(key) <= 60_000
    await store.release("digest", slot)
    assert not await store.renew("digest", slot)
    assert server.keys("*slots*") == []
    await store.close()


def test_a_lease_in_a_store_over_a_network_says_that_it_cannot_run_under_trio() -> None:
    app = limited(concurrency=1, storage="redis://127.0.0.1:1", on_store_failure="open")
    with pytest.raises(ConfigError, match="memory:// under trio"):
        anyio.run(call, app, backend="trio")
