"""Failover, as each component lives through it: a moved address, Sentinel, a server that takes no writes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

import flexmw
from flexmw.kit.redis_async import AsyncNodes
from flexmw.kit.redis_blocking import BlockingNodes
from flexmw.kit.store_url import parse
from flexmw.pace.redis import PREFIX
from flexmw.testing.hostile.ports import HOST
from tests.servers import Child, redis_binary, redis_process, skip_unless
from tests.stores import client_of, counting_app, cut_reply, front, sentinel_of
from tests.waiting import LONGEST_WAIT, eventually

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[Child, Child]]:
    """Two redis-servers."""
    skip_unless(redis_binary(), "redis-server")
    binary, folder = str(redis_binary()), tmp_path_factory.mktemp
    with redis_process(binary, folder("one")) as one, redis_process(binary, folder("two")) as two:
        yield one, two


class Rooms:
    """One app or client for each component, all on one storage."""

    def __init__(self, url: str) -> None:
        app, self.runs = counting_app()
        limit = flexmw.RateLimit("10000/hour", storage=url, store_timeout=1.0, on_store_failure="closed")
        self._limited = limit.asgi(app)
        self.limited = client_of(self._limited)
        self.keyed = client_of(flexmw.wrap_app(app, flexmw.Envelope(), flexmw.Idempotency(storage=url)))
        headers = {"x-ratelimit-limit-requests": "9", "x-ratelimit-remaining-requests": "8"}
        headers["x-ratelimit-reset-requests"] = "60"
        transport = httpx.MockTransport(lambda request: httpx.Response(200, headers=headers))
        self.paced = flexmw.wrap_client(httpx.AsyncClient(transport=transport), flexmw.Pace(storage=url))
        self._number = 0

    async def ask(self) -> tuple[int, int, int]:
        """One request through each. Their statuses."""
        self._number += 1
        limited = await self.limited.post("/")
        keyed = await self.keyed.post("/", headers={"Idempotency-Key": f"k{self._number}"})
        paced = await self.paced.get(f"http://host{self._number}.example/")
        return limited.status_code, keyed.status_code, paced.status_code

    async def close(self) -> None:
        closing: Any = self._limited
        await closing.close()
        for client in (self.limited, self.keyed, self.paced):
            await client.aclose()


def _starts(client: redis.Redis) -> set[str]:
    """What the keys on a server begin with: one of them for each component."""
    names = [key.decode() for key in client.keys("*")]
    return {part for part in ("LIMIT", "flexmw:idempotency", PREFIX) for name in names if part in name}


async def test_a_moved_address_is_followed_although_the_old_connections_live_on(pair: tuple[Child, Child]) -> None:
    """The old primary goes on as a replica and says READONLY, in the middle of a script's error on redis 6.2."""
    with redis.Redis(port=pair[0].port) as old, redis.Redis(port=pair[1].port) as new, front(pair[0].port) as address:
        old.flushall()
        new.flushall()
        rooms = Rooms(f"redis://{HOST}:{address.port}")
        try:
            assert await rooms.ask() == (200, 200, 200)
            assert len(_starts(old)) == 3
            old.replicaof(HOST, pair[1].port)
            address.target = pair[1].port
            assert await rooms.ask() == (200, 200, 200)
            assert len(_starts(new)) == 3
            assert rooms.runs == ["", "k1", "", "k2"]
        finally:
            await rooms.close()
            old.replicaof("NO", "ONE")


async def test_the_primary_that_sentinel_names_is_used_while_calls_run(
    pair: tuple[Child, Child], tmp_path: Path
) -> None:
    """After a planned failover the old primary takes writes for 11 seconds, without an error."""
    with redis.Redis(port=pair[1].port) as new, sentinel_of(str(redis_binary()), *pair, tmp_path) as port:
        rooms = Rooms(f"redis+sentinel://{HOST}:{port}/m")
        with redis.Redis(port=port) as sentinel, redis.Redis(port=pair[0].port) as old:
            try:
                assert await rooms.ask() == (200, 200, 200)
                # Sentinel refuses while it has not heard from the replica, as on a busy machine.
                await asyncio.to_thread(eventually, lambda: sentinel.execute_command("SENTINEL", "FAILOVER", "m"))
                address = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "m")
                await asyncio.to_thread(eventually, lambda: int(sentinel.execute_command(*address)[1]) == pair[1].port)
                new.flushall()
                statuses: list[tuple[int, int, int]] = []
                async with asyncio.timeout(LONGEST_WAIT):  # Sentinel is asked five times a second
                    while len(_starts(new)) < 3:
                        statuses.append(await rooms.ask())
                        await asyncio.sleep(0.01)
                # Sentinel closes the connections of a server that it promotes. What was in flight is not repeated.
                for of_component in zip(*statuses, strict=True):
                    assert [status for status in of_component if status != 200] in ([], [503])
                assert old.info("replication")["role"] == "master"  # nothing but Sentinel has said so
            finally:
                await rooms.close()
                for client in (old, new):
                    client.replicaof("NO", "ONE")


@pytest.mark.parametrize("strategy", ["sliding-window-counter", "moving-window"])
async def test_a_full_server_refuses_new_keys_and_stays_asked(
    strategy: str, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "flexmw.ratelimit")
    app, _ = counting_app()
    options: Any = {"on_store_failure": "closed", "store_timeout": LONGEST_WAIT}
    limit = flexmw.RateLimit("5/minute", storage=redis_url, strategy=strategy, **options)
    limited: Any = limit.asgi(app)
    async with client_of(limited) as client:
        with redis.Redis.from_url(redis_url) as server:
            server.config_set("maxmemory", 1)
            try:
                assert [(await client.post("/")).status_code for _ in range(5)] == [503] * 5
            finally:
                server.config_set("maxmemory", 0)
        assert (await client.post("/")).status_code == 200  # a server that replies is alive: no breaker is open
    await limited.close()
    lost, back = [record for record in caplog.records if record.name == "flexmw.ratelimit"]
    assert "the server is full (OOM)" in lost.getMessage()
    assert "responds again" in back.getMessage()


@pytest.mark.parametrize("client", [BlockingNodes, AsyncNodes])
async def test_a_command_whose_reply_was_cut_is_executed_once(client: type[Any], redis_url: str) -> None:
    script = "return redis.call('INCR', KEYS[1])"
    with redis.Redis.from_url(redis_url) as server:
        server.script_load(script)
        address = server.connection_pool.connection_kwargs
        with cut_reply(address["port"], b"cut-key") as (port, cut):
            url = parse(f"redis://{HOST}:{port}/{address.get('db', 0)}", "storage")
            if client is BlockingNodes:
                nodes = BlockingNodes(url, timeout=LONGEST_WAIT)
                with pytest.raises(redis.ConnectionError):
                    nodes.eval(script, 1, "cut-key")
                nodes.close()
            else:
                asynchronous = AsyncNodes(url, connect_timeout=LONGEST_WAIT)
                with pytest.raises(redis.ConnectionError):
                    await asynchronous.eval(script, 1, "cut-key")
                await asynchronous.aclose()
        assert cut == [b":1\r\n"]
        assert server.get("cut-key") == b"1"


async def test_connections_that_were_closed_while_idle_fail_no_command(redis_url: str) -> None:
    nodes = AsyncNodes(parse(redis_url, "storage"), connect_timeout=LONGEST_WAIT)
    with redis.Redis.from_url(redis_url) as server:
        await asyncio.gather(*(nodes.eval("return 1", 1, "k") for _ in range(8)))
        server.execute_command("CLIENT", "KILL", "TYPE", "normal")
        await asyncio.sleep(0.05)  # the event loop reads the ends of the connections
        replies = await asyncio.gather(*(nodes.eval("return 1", 1, "k") for _ in range(8)))
    assert replies == [1] * 8
    await nodes.aclose()
