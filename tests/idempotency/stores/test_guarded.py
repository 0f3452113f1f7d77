"""Idempotency over a store that is half dead: bounded time, no ghost of a claim, and what runs stays claimed.

The promise in SECURITY.md: "A store that is half dead costs a request its `store_timeout` once".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

import flexmw
from flexmw.idempotency.stores import Held, ManyLeases
from flexmw.idempotency.stores.guarded import GuardedStore, Unavailable
from flexmw.idempotency.stores.memory import MemoryStore
from flexmw.kit.store_log import Fallback, StoreLog
from flexmw.testing import FakeClock
from flexmw.testing.hostile.ports import HOST
from tests.servers import Child
from tests.stores import client_of, counting_app
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio
TIMEOUT = 0.4


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@contextlib.contextmanager
def half_dead(drips: bool) -> Generator[str]:
    """A server that accepts connections and never replies, or sends one byte of a reply after the other."""
    stopped = threading.Event()
    with socket.create_server((HOST, 0), backlog=200) as listener:
        threads: list[threading.Thread] = []

        def drip(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"$")
                while not stopped.wait(0.05):
                    connection.sendall(b"1")

        def accept() -> None:
            while drips:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threads.append(threading.Thread(target=drip, args=(connection,)))
                threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield f"redis://{HOST}:{listener.getsockname()[1]}"
        finally:
            stopped.set()
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            for thread in (accepting, *threads):
                thread.join(LONGEST_WAIT)


def keyed(number: int) -> dict[str, str]:
    return {"Idempotency-Key": f"k{number}"}


def counted(number: int) -> dict[str, str]:
    """A call of an SDK that sends no key. Without a credential it would be protected by nothing."""
    return {"x-stainless-retry-count": "1", "authorization": f"Bearer {number}"}


@pytest.mark.parametrize("headers", [keyed, counted])
@pytest.mark.parametrize("drips", [False, True])
async def test_many_requests_at_once_are_all_told_in_the_time_of_one(
    drips: bool, headers: Callable[[int], dict[str, str]]
) -> None:
    app, runs = counting_app()
    with half_dead(drips) as url:
        component = flexmw.Idempotency(storage=url, store_timeout=TIMEOUT, on_store_failure="refuse", sdk_retries=True)
        async with client_of(flexmw.wrap_app(app, flexmw.Envelope(), component)) as client:
            began = time.monotonic()
            responses = await asyncio.gather(*(client.post("/", headers=headers(number)) for number in range(48)))
            assert time.monotonic() - began < 24 * TIMEOUT  # in turn they would take 48 times as long
            assert [response.status_code for response in responses] == [503] * 48
            began = time.monotonic()
            assert (await client.post("/", headers=headers(99))).status_code == 503
            assert time.monotonic() - began < 24 * TIMEOUT
    assert runs == []


async def test_a_locked_sqlite_file_is_waited_for_once_and_leaves_no_claim(tmp_path: Path) -> None:
    app, runs = counting_app()
    timeout = 2.0  # opening the file and 48 syncs in turn take their time on a busy machine
    component = flexmw.Idempotency(storage=f"sqlite:///{tmp_path}/keys.db", store_timeout=timeout)
    async with client_of(flexmw.wrap_app(app, flexmw.Envelope(), component)) as client:
        assert (await client.post("/", headers=keyed(0))).status_code == 200
        other = sqlite3.connect(tmp_path / "keys.db", isolation_level=None)
        other.execute("begin immediate")
        began = time.monotonic()
        responses = await asyncio.gather(*(client.post("/", headers=keyed(number)) for number in range(1, 49)))
        assert time.monotonic() - began < 24 * timeout  # in turn they would take 48 times as long
        assert {response.status_code for response in responses} == {503}
        other.execute("rollback")
        other.close()
        await _until_back(client)
        for number in range(1, 49):
            assert (await client.post("/", headers=keyed(number))).status_code == 200
    assert sorted(runs[1:]) == sorted([*(f"k{number}" for number in range(1, 49)), "back"])


async def _until_back(client: Any) -> None:
    async with asyncio.timeout(LONGEST_WAIT):
        while (await client.post("/", headers={"Idempotency-Key": "back"})).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_who_was_told_that_nothing_ran_finds_the_key_free(redis_url: str, redis_server: Child) -> None:
    """The frozen server has the claims in its buffers, and would carry them out when it goes on."""
    app, runs = counting_app()
    component = flexmw.Idempotency(storage=redis_url, store_timeout=TIMEOUT)
    async with client_of(flexmw.wrap_app(app, flexmw.Envelope(), component)) as client:
        assert (await client.post("/", headers=keyed(0))).status_code == 200
        with redis_server.frozen():
            responses = await asyncio.gather(*(client.post("/", headers=keyed(number)) for number in range(1, 7)))
            assert {response.status_code for response in responses} == {503}
        await _until_back(client)
        assert [(await client.post("/", headers=keyed(n))).status_code for n in range(1, 7)] == [200] * 6
    assert sorted(runs) == sorted([*(f"k{number}" for number in range(7)), "back"])


class Gate:
    """An app that waits in the middle of its work."""

    def __init__(self) -> None:
        self.entered, self.opened, self.runs = asyncio.Event(), asyncio.Event(), 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.runs += 1
        self.entered.set()
        await self.opened.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 20_000})


@pytest.mark.parametrize("fault", ["full", "lost"])
async def test_what_runs_stays_claimed_on_a_full_server_and_after_a_loss(
    fault: str, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "flexmw.idempotency")
    gate = Gate()
    component = flexmw.Idempotency(storage=redis_url, lease=0.6)
    async with client_of(flexmw.wrap_app(gate, flexmw.Envelope(), component)) as client:
        first = asyncio.create_task(client.post("/", headers=keyed(1)))
        await gate.entered.wait()
        with redis.Redis.from_url(redis_url) as server:
            (name,) = server.keys("flexmw:*")
            if fault == "full":
                server.config_set("maxmemory", 1)
            else:
                server.flushall()
            try:
                lease = server.hget(name, "until")
                async with asyncio.timeout(LONGEST_WAIT):
                    while server.hget(name, "until") == lease:  # noqa: ASYNC110 - until the next heartbeat
                        await asyncio.sleep(0.01)
                if fault == "full":
                    assert (await client.post("/", headers=keyed(2))).status_code == 503
                assert (await client.post("/", headers=keyed(1))).json()["error"]["code"] == "idempotency_in_progress"
                if fault == "lost":
                    server.flushall()  # once more, before the response is stored
                gate.opened.set()
                assert (await first).status_code == 200
                replay = await client.post("/", headers=keyed(1))
                assert (replay.status_code, replay.headers["idempotent-replayed"]) == (200, "true")
                assert len(replay.content) == 20_000
                assert gate.runs == 1
                lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
                if fault == "full":  # the operations on the known key have not ended the outage
                    assert [" fails: ResponseError: the server is full" in line for line in lines] == [True]
            finally:
                server.config_set("maxmemory", 0)
            if fault == "full":
                assert (await client.post("/", headers=keyed(3))).status_code == 200
                assert "responds again" in caplog.records[-1].getMessage()
                assert "refused 1 requests" in caplog.records[-1].getMessage()


class Failing(MemoryStore):
    """A store whose operations hang or fail as long as they are told to."""

    hangs = False

    async def swap(self, key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float) -> Held | None:
        held = await super().swap(key, expected, token, entry, lease=lease, ttl=ttl)
        if self.hangs:
            await asyncio.Event().wait()  # the claim is written, its reply never comes
        return held


async def test_a_claim_whose_reply_never_came_is_undone() -> None:
    app, runs = counting_app()
    store = Failing()
    component = flexmw.Idempotency(storage=_Foreign(store), store_timeout=0.05)
    async with client_of(flexmw.wrap_app(app, flexmw.Envelope(), component)) as client:
        store.hangs = True
        assert (await client.post("/", headers=keyed(1))).status_code == 503
        store.hangs = False
        assert (await client.post("/", headers=keyed(1))).status_code == 200
    assert runs == ["k1"]


class _Foreign:
    """A store of another distribution."""

    def __init__(self, store: MemoryStore) -> None:
        self.load, self.swap, self.extend = store.load, store.swap, store.extend
        self.drop, self.scan, self.aclose = store.drop, store.scan, store.aclose


async def test_the_breaker_opens_after_three_operations_without_a_reply_and_lets_one_ask_again() -> None:
    store, clock = Failing(), FakeClock()
    log = StoreLog("flexmw.idempotency", "x", Fallback("y", "z"), monotonic=clock.monotonic)
    guard = GuardedStore(store, timeout=0.01, clock=clock, log=log)

    async def swap(key: str) -> Held | None:
        return await guard.swap(key, "", "t", b"", lease=1.0, ttl=60.0)

    store.hangs = True
    for number in range(3):
        with pytest.raises(TimeoutError):
            await swap(f"k{number}")
    store.hangs = False
    with pytest.raises(Unavailable):
        await swap("k3")
    clock.advance(0.51)
    assert await swap("k4") is not None
    assert await swap("k5") is not None


async def test_the_operations_of_one_budget_share_its_time() -> None:
    store, clock = Failing(), FakeClock()
    log = StoreLog("flexmw.idempotency", "x", Fallback("y", "z"), monotonic=clock.monotonic)
    guard = GuardedStore(store, timeout=0.05, clock=clock, log=log)
    store.hangs = True
    with guard.budget():
        with pytest.raises(TimeoutError):
            await guard.swap("k", "", "t", b"", lease=1.0, ttl=60.0)
        with pytest.raises(TimeoutError, match="the time for the store is over"):
            await guard.load("k")


async def test_a_guarded_store_renews_many_leases_at_once_exactly_if_its_store_does() -> None:
    class Many(MemoryStore):
        async def extend_many(self, leases: Sequence[tuple[str, str, float, float]]) -> list[bool]:
            return [await self.extend(key, token, lease=lease, ttl=ttl) for key, token, lease, ttl in leases]

    clock = FakeClock()
    log = StoreLog("flexmw.idempotency", "x", Fallback("y", "z"), monotonic=clock.monotonic)
    many = GuardedStore(Many(), timeout=1.0, clock=clock, log=log)
    assert isinstance(many, ManyLeases)
    assert not isinstance(GuardedStore(_Foreign(MemoryStore()), timeout=1.0, clock=clock, log=log), ManyLeases)
    await many.swap("a", "", "t", b"", lease=1.0, ttl=60.0)
    assert list(await many.extend_many([("a", "t", 60.0, 60.0), ("b", "t", 60.0, 60.0)])) == [True, False]
