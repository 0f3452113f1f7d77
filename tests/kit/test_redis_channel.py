"""One connection that all commands of an event loop share: order, cancellation, time limits, and its end."""

from __future__ import annotations

import asyncio
import gc
import time
import warnings
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from math import inf
from typing import Any

import pytest
import redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from flexmw.kit.redis_async import LARGE_BYTES, AsyncNodes
from flexmw.kit.redis_script import script
from flexmw.kit.store_url import parse
from flexmw.testing.hostile.ports import HOST
from tests.servers import Child
from tests.stores import front, wrong_way
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio
ECHO = script("return ARGV[1]")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def nodes_of(url: str, *, connect_timeout: float = LONGEST_WAIT) -> AsyncGenerator[AsyncNodes]:
    nodes = AsyncNodes(parse(url, "storage"), connect_timeout=connect_timeout)
    try:
        yield nodes
    finally:
        await nodes.aclose()


def connections(url: str) -> int:
    """How many clients the server has accepted so far, this one left out."""
    with redis.Redis.from_url(url) as server:
        return int(server.info("stats")["total_connections_received"]) - 1


@pytest.mark.parametrize("protocol", [2, 3])
async def test_many_commands_at_once_share_one_connection_and_get_their_own_replies(
    protocol: int, redis_url: str
) -> None:
    before = connections(redis_url)
    async with nodes_of(f"{redis_url}?protocol={protocol}") as nodes:
        replies = await asyncio.gather(*(nodes.run_script(ECHO, 1, "k", number) for number in range(500)))
        assert replies == [b"%d" % number for number in range(500)]
        assert connections(redis_url) == before + 2


async def test_a_large_command_has_a_connection_of_its_own(redis_url: str) -> None:
    before = connections(redis_url)
    async with nodes_of(redis_url) as nodes:
        large = b"x" * LARGE_BYTES
        assert await asyncio.gather(nodes.eval("return #ARGV[1]", 1, "k", large), nodes.eval("return 1", 1, "k")) == [
            LARGE_BYTES,
            1,
        ]
        assert connections(redis_url) == before + 3
    async with nodes_of(f"{redis_url}?max_connections=1") as nodes:
        await asyncio.gather(nodes.eval("return #ARGV[1]", 1, "k", large), nodes.eval("return 1", 1, "k"))
        assert connections(redis_url) == before + 5


async def test_a_cancelled_command_takes_no_reply_of_another(redis_url: str, redis_server: Child) -> None:
    async with nodes_of(redis_url) as nodes:
        assert await nodes.run_script(ECHO, 1, "k", "first") == b"first"
        before = connections(redis_url)
        with redis_server.frozen():
            tasks = [asyncio.create_task(nodes.run_script(ECHO, 1, "k", number)) for number in range(40)]
            for _ in range(3):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
        replies = await asyncio.gather(*tasks, return_exceptions=True)
        assert replies[1::2] == [b"%d" % number for number in range(1, 40, 2)]
        assert {type(reply) for reply in replies[::2]} == {asyncio.CancelledError}
        assert connections(redis_url) == before + 1  # the connection went on


async def test_an_error_of_the_server_is_raised_by_its_own_command_alone(redis_url: str) -> None:
    async with nodes_of(redis_url) as nodes:
        wrong, right = await asyncio.gather(
            nodes.eval("return redis.error_reply('OOM command not allowed')", 1, "k"),
            nodes.eval("return 1", 1, "k"),
            return_exceptions=True,
        )
        assert isinstance(wrong, ResponseError)
        assert right == 1


async def test_a_command_whose_time_is_over_fails_and_the_next_one_gets_a_new_connection(
    redis_url: str, redis_server: Child
) -> None:
    async with nodes_of(redis_url, connect_timeout=0.05) as nodes:
        await nodes.run_script(ECHO, 1, "k", "first")
        with redis_server.frozen():
            patient = asyncio.create_task(nodes.run_script(ECHO, 1, "k", "patient"))
            with pytest.raises(TimeoutError):
                await nodes.run_script(ECHO, 1, "k", "late", end=nodes.time.now() + 0.1)
            assert [channel.is_usable for channel in nodes._channels.values()] == [False]
        assert await patient == b"patient"  # what was on its way keeps its connection
        async with asyncio.timeout(LONGEST_WAIT):
            while True:
                try:
                    assert await nodes.run_script(ECHO, 1, "k", "next") == b"next"
                    break
                except redis.RedisError:  # a busy machine does not connect in time
                    pass


async def test_three_commands_without_any_reply_are_followed_by_a_new_connection(
    redis_url: str, redis_server: Child
) -> None:
    """A connection whose other end is gone without a word is not waited for, also where callers limit the time."""
    async with nodes_of(redis_url) as nodes:
        await nodes.run_script(ECHO, 1, "k", "first")
        (silent,) = nodes._channels.values()
        with redis_server.frozen():
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await nodes.run_script(ECHO, 1, "k", "late")
                nodes.record_no_reply()
            task = asyncio.create_task(nodes.run_script(ECHO, 1, "k", "next"))
            await asyncio.sleep(0)
            assert list(nodes._channels.values()) != [silent]
        assert await task == b"next"


async def test_a_loop_that_was_held_up_does_not_fail_what_the_server_has_done(redis_url: str) -> None:
    async with nodes_of(redis_url, connect_timeout=0.2) as nodes:
        connecting = asyncio.create_task(nodes.run_script(ECHO, 1, "k", "first", end=nodes.time.now() + LONGEST_WAIT))
        await asyncio.sleep(0)
        time.sleep(0.3)  # noqa: ASYNC251 - longer than a connection attempt may take
        assert await connecting == b"first"
        sent = asyncio.create_task(nodes.run_script(ECHO, 1, "k", "second", end=nodes.time.now() + 0.1))
        await asyncio.sleep(0)
        time.sleep(0.2)  # noqa: ASYNC251 - longer than the command may take
        assert await sent == b"second"


async def test_a_command_that_was_not_sent_yet_is_not_sent_after_its_time(redis_url: str, redis_server: Child) -> None:
    async with nodes_of(f"{redis_url}?client_name=late") as nodes:
        with redis_server.frozen():  # accepts the connection, and does not reply to the handshake
            with pytest.raises(TimeoutError):
                await nodes.eval("return redis.call('SET', KEYS[1], 'v')", 1, "k", end=nodes.time.now() + 0.1)
            task = asyncio.create_task(nodes.eval("return redis.call('SET', KEYS[1], 'v')", 1, "k"))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await nodes.eval("return redis.call('GET', KEYS[1])", 1, "k") is None


async def test_a_connection_that_ends_fails_every_command_on_its_way_and_repeats_none(
    redis_url: str, redis_server: Child
) -> None:
    increment = "return redis.call('INCR', KEYS[1])"
    with front(redis_server.port) as address:
        async with nodes_of(f"redis://{HOST}:{address.port}") as nodes:
            await nodes.eval("return 1", 1, "k")
            with redis_server.frozen():
                tasks = [asyncio.create_task(nodes.eval(increment, 1, key)) for key in ("one", "two")]
                await asyncio.sleep(0.05)  # the proxy passes them on
                await asyncio.to_thread(address.cut)
                errors = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(error) for error in errors] == [RedisConnectionError] * 2
            assert errors[0] is not errors[1]  # each task adds its own traceback
            assert {await nodes.eval(increment, 1, key) for key in ("one", "two")} <= {1, 2}


async def test_bytes_of_another_protocol_fail_the_command(anyio_backend: str) -> None:
    with wrong_way(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        async with nodes_of(f"redis://127.0.0.1:{port}?protocol=2") as nodes:
            with pytest.raises(redis.RedisError):
                await nodes.eval("return 1", 1, "k")


async def test_an_idle_connection_is_tested_where_the_url_asks_for_it(redis_url: str, redis_server: Child) -> None:
    async with nodes_of(f"{redis_url}?health_check_interval=0.05", connect_timeout=0.05) as nodes:
        async with asyncio.timeout(LONGEST_WAIT):
            while not nodes._channels:
                try:
                    await nodes.eval("return 1", 1, "k")
                except redis.RedisError:
                    nodes._channels.clear()
            (channel,) = nodes._channels.values()
            with redis_server.frozen():
                while channel.is_usable:  # noqa: ASYNC110 - until the PING had no reply
                    await asyncio.sleep(0.01)


@pytest.mark.parametrize("command", [ECHO])
def test_a_loop_that_ends_closes_the_connections_that_nobody_closed(command: Any, redis_url: str) -> None:
    async def run() -> None:
        nodes = AsyncNodes(parse(redis_url, "storage"), connect_timeout=LONGEST_WAIT)
        assert await nodes.run_script(command, 1, "k", "v", end=inf) == b"v"

    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        asyncio.run(run())
        gc.collect()
