"""The store in redis under asyncio: commands per request, no thread, and one object for many event loops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest
import redis

import flexmw
from flexmw.idempotency.stores import ManyLeases, Swap, SwapPairs
from flexmw.idempotency.stores.open import open_store
from flexmw.idempotency.stores.redis_async import AsyncRedisStore
from flexmw.kit.redis_async import AsyncNodes
from flexmw.kit.redis_blocking import BlockingNodes
from tests.servers import Child
from tests.stores import client_of, counting_app
from tests.waiting import LONGEST_WAIT, eventually

pytestmark = pytest.mark.anyio
KEYED = {"Idempotency-Key": "k"}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@contextmanager
def counted(url: str) -> Generator[list[int]]:
    """How many commands the server executes inside the context, those of scripts and of this count left out."""
    count: list[int] = []
    with redis.Redis.from_url(url) as server:

        def executed() -> int:
            stats = server.info("commandstats")
            return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "evalsha"))

        before = executed()
        yield count
        count.append(executed() - before)


class Calls:
    """Requests of an unmodified SDK, and of a client with keys, to one app."""

    def __init__(self, url: str, app: Any = None) -> None:
        self.url = url
        counting, self.runs = counting_app()
        component = flexmw.Idempotency(storage=url, sdk_retries=True)
        self.client = client_of(flexmw.wrap_app(app or counting, flexmw.Envelope(), component))

    async def __call__(self, headers: Mapping[str, str], body: str = "") -> tuple[int, bool, int]:
        """Status, whether the response is a replay, and the number of scripts."""
        with counted(self.url) as count:
            response = await self.client.post("/", headers={"authorization": "Bearer x", **headers}, content=body)
        return response.status_code, "idempotent-replayed" in response.headers, count[0]


async def test_a_first_attempt_is_two_commands_and_a_replay_one(redis_url: str) -> None:
    call = Calls(redis_url)
    assert await call(KEYED) == (200, False, 2)  # also the very first one: the server's time is known from the start
    assert await call({"Idempotency-Key": "other"}) == (200, False, 2)
    assert await call(KEYED) == (200, True, 1)
    assert await call(KEYED, body="other") == (422, False, 1)


async def test_a_first_attempt_of_an_sdk_is_two_commands_and_its_retry_three(redis_url: str) -> None:
    call = Calls(redis_url)
    assert await call({"x-stainless-retry-count": "0"}) == (200, False, 2)  # claim, response with "sent"
    assert await call({"x-stainless-retry-count": "1"}) == (200, True, 3)  # the list, the response, "sent"
    assert await call({"x-stainless-retry-count": "0"}) == (200, False, 3)  # an equal call is known
    assert await call({"x-stainless-retry-count": "1"}, body="unknown") == (200, False, 2)
    assert len(call.runs) == 3


async def test_a_duplicate_of_a_running_request_is_one_command(redis_url: str) -> None:
    entered, opened = asyncio.Event(), asyncio.Event()

    async def waiting(scope: Any, receive: Any, send: Any) -> None:
        entered.set()
        await opened.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    call = Calls(redis_url, waiting)
    first = asyncio.create_task(call.client.post("/", headers={"authorization": "Bearer x", **KEYED}))
    await entered.wait()
    assert await call(KEYED) == (409, False, 1)
    opened.set()
    assert (await first).status_code == 200


async def test_no_thread_is_entered_under_asyncio(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Calls(redis_url)
    await call(KEYED)

    async def forbidden(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a thread")

    monkeypatch.setattr(anyio.to_thread, "run_sync", forbidden)
    before = set(threading.enumerate())
    assert (await call({"Idempotency-Key": "two"}))[0] == 200
    store = open_store(redis_url)
    assert [key async for key, _ in store.scan("flexmw:")]
    await store.aclose()
    assert not set(threading.enumerate()) - before


def _run_both(work: Callable[[], Awaitable[None]]) -> None:
    """Run work on a loop of asyncio, on one of trio, and on two of asyncio in threads at the same time."""
    anyio.run(work, backend="asyncio")
    anyio.run(work, backend="trio")
    threads = [threading.Thread(target=anyio.run, args=(work,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONGEST_WAIT)


def test_one_store_serves_loops_of_asyncio_and_of_trio(redis_url: str) -> None:
    store = open_store(redis_url)
    won: list[str] = []

    async def work() -> None:
        token = f"{threading.get_ident()} {len(won)}"
        held = await store.swap("{c}:k", "", token, b"entry", lease=60.0, ttl=60.0)
        assert held is not None
        if held.token == token:
            won.append(token)
        assert await store.extend("{c}:k", held.token, lease=60.0, ttl=60.0)
        assert isinstance(store, ManyLeases)
        assert (
            list(await store.extend_many([("{c}:k", held.token, 60.0, 60.0), ("{c}:none", "t", 60.0, 60.0)] * 3))
            == [True, False] * 3
        )
        assert [key async for key, _ in store.scan("{c}")] == ["{c}:k"]

    _run_both(work)
    assert len(won) == 1
    anyio.run(store.aclose)


async def test_a_store_that_is_closed_closes_the_connections_of_every_loop(redis_url: str) -> None:
    store = open_store(redis_url)
    ready, done = threading.Event(), threading.Event()

    async def elsewhere() -> None:
        await store.load("k")
        ready.set()
        await asyncio.to_thread(done.wait, LONGEST_WAIT)

    thread = threading.Thread(target=asyncio.run, args=(elsewhere(),))
    with redis.Redis.from_url(redis_url) as server:
        clients = len(server.client_list())
        thread.start()
        await asyncio.to_thread(ready.wait, LONGEST_WAIT)
        await store.load("k")
        assert len(server.client_list()) == clients + 2
        await store.aclose()
        await asyncio.to_thread(eventually, lambda: len(server.client_list()) == clients)
        assert await store.load("k") is None
        done.set()
        await asyncio.to_thread(thread.join, LONGEST_WAIT)
        await store.aclose()


async def test_the_end_of_the_lifespan_closes_the_connections(redis_url: str) -> None:
    app = flexmw.Idempotency(storage=redis_url).asgi(counting_app()[0])
    with redis.Redis.from_url(redis_url) as server:
        clients = len(server.client_list())
        messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

        async def receive() -> Any:
            if len(messages) == 1:
                async with client_of(app) as client:
                    assert (await client.post("/", headers=KEYED)).status_code == 200
                assert len(server.client_list()) == clients + 1
            return messages.pop(0)

        async def send(message: Any) -> None:
            pass

        await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
        await asyncio.to_thread(eventually, lambda: len(server.client_list()) == clients)


async def test_a_claim_that_waits_for_its_connection_ends_in_time(redis_url: str, redis_server: Child) -> None:
    store = open_store(redis_url, timeout=0.2)
    with redis_server.frozen():
        results = await asyncio.gather(
            *(store.swap(f"k{number}", "", "t", b"", lease=60.0, ttl=60.0) for number in range(20)),
            return_exceptions=True,
        )
    assert all(isinstance(result, Exception) for result in results)
    with redis.Redis.from_url(redis_url) as server:
        assert server.keys("k*") == []
    await store.aclose()


async def test_a_server_without_hello_is_spoken_to_in_resp_2(redis_url: str) -> None:
    for protocol in (2, 3):
        store = open_store(f"{redis_url}?protocol={protocol}")
        held = await store.swap("k", "", "t", b"\xff\x00\r\n", lease=60.0, ttl=60.0)
        assert held is not None
        held = await store.load("k")
        assert held is not None
        assert (held.token, held.entry) == ("t", b"\xff\x00\r\n")
        assert 59.0 < held.lease <= 60.0
        await store.drop("k", "t")
        await store.aclose()


def swap(key: str, expected: str, token: str, entry: bytes = b"e") -> Swap:
    return Swap(f"{{p}}:{key}", expected, token, entry, 60.0, 60.0)


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_two_writes_in_one_step_take_place_both_or_not_at_all(redis_url: str, anyio_backend: str) -> None:
    store = open_store(redis_url)
    assert isinstance(store, SwapPairs)
    assert isinstance(store, AsyncRedisStore)

    async def tokens(first: Swap, second: Swap) -> list[str | None]:
        return [held and held.token for held in await store.swap_pair(first, second)]

    pair = swap("a", "", "a1"), swap("b", "", "b1")
    assert await tokens(*pair) == ["a1", "b1"]
    assert await tokens(*pair) == ["a1", "b1"]  # a repetition changes nothing
    assert await tokens(swap("a", "", "a2"), swap("c", "", "c2")) == ["a1", None]
    assert await store.load("{p}:c") is None
    assert await tokens(swap("a", "a1", "a3"), swap("b", "", "b3")) == ["a3", "b1"]
    assert await tokens(swap("a", "a3", "a4"), swap("d", "gone", "d4")) == ["a4", None]
    held = await store.load("{p}:b")
    assert held is not None
    assert held.token == "b1"
    await store.aclose()


async def test_a_full_server_takes_no_new_key_of_two_and_lets_go_on_what_runs(redis_url: str) -> None:
    store: Any = open_store(redis_url)
    await store.swap_pair(swap("a", "", "a1"), swap("b", "", "b1"))
    with redis.Redis.from_url(redis_url) as server:
        server.config_set("maxmemory", 1)
        try:
            with pytest.raises(redis.ResponseError, match="OOM"):
                await store.swap_pair(swap("a", "a1", "a2"), swap("c", "", "c2"))
            first, second = await store.swap_pair(swap("a", "a1", "a3"), swap("b", "", "b3"))
            assert (first.token, second.token) == ("a3", "b1")
        finally:
            server.config_set("maxmemory", 0)
    await store.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_two_writes_are_made_one_by_one_while_a_cluster_moves_their_slot(
    redis_url: str, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(redis_url)
    assert isinstance(store, SwapPairs)
    moving: list[str] = []
    for client in (AsyncNodes, BlockingNodes):
        run_script: Any = client.run_script

        def refuse(self: Any, script: Any, number: int, *values: Any, run: Any = run_script, **options: Any) -> Any:
            if number == 2:  # no node executes a script of two keys of which one has moved
                moving.append(type(self).__name__)
                raise redis.ResponseError("TRYAGAIN Multiple keys request during rehashing of slot")
            return run(self, script, number, *values, **options)

        monkeypatch.setattr(client, "run_script", refuse)
    first, second = await store.swap_pair(swap("a", "", "a1"), swap("b", "", "b1"))
    assert (first and first.token, second and second.token) == ("a1", "b1")
    first, second = await store.swap_pair(swap("a", "", "a2"), swap("c", "", "c2"))
    assert (first and first.token, second) == ("a1", None)
    assert await store.load("{p}:c") is None
    assert moving == (["AsyncNodes"] * 2 if anyio_backend == "asyncio" else ["BlockingNodes"] * 2)
    await store.aclose()
