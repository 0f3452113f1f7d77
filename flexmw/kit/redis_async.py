"""Asyncio client of a store in redis or valkey, on one server, behind Sentinel or in a cluster.

All commands of an event loop share one connection to each server: see :mod:`flexmw.kit.redis_channel`. Commands of more
than :data:`LARGE_BYTES` use a second connection, so that they do not delay small commands.
"""

from __future__ import annotations

import asyncio
from asyncio import Task, get_running_loop, sleep
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any, Final

from redis.exceptions import NoScriptError

from flexmw.kit.drive import adrive
from flexmw.kit.loop_time import LoopTime, StoreTimeout, current_time
from flexmw.kit.redis_channel import Channel
from flexmw.kit.redis_client import Connector
from flexmw.kit.redis_flow import Address, Drop, Learn, Nodes, Pause, Send, Step, execution
from flexmw.kit.redis_nodes import Clients, nodes_to_ask, slot_of
from flexmw.kit.redis_script import Script
from flexmw.kit.redis_wire import pack
from flexmw.kit.store_url import StorageURL

__all__ = ["LARGE_BYTES", "AsyncNodes"]

LARGE_BYTES: Final = 65_536
"""Length of a command above which it is sent over the connection for large commands."""

_MOVING_SECONDS: Final = 0.03
"""Seconds for which a command without a time limit waits for a moving slot. The caller of such a command limits its
time, and may have a fallback."""

_NEVER: Final = (None, None)
"""The error and the channel of a first attempt, if there was none."""


class AsyncNodes:
    """Sends commands on one event loop, the one that runs when the object is made.

    A command whose caller is cancelled is dropped. A command whose time is over fails. The connections are closed by
    :meth:`aclose`, or when the event loop shuts down its asynchronous generators.

    :param url: a checked URL of a redis family.
    :param connect_timeout: seconds until a connection attempt fails.
    :param time: a clock of the event loop that the callers read too; ``None``: one of its own.
    :ivar time: the clock of the event loop. It does not count the time for which the loop is blocked.
    """

    def __init__(self, url: StorageURL, *, connect_timeout: float, time: LoopTime | None = None) -> None:
        connector = Connector(url)
        self.time = current_time(connect_timeout) if time is None else time
        self._nodes = Nodes(connector.kind, connector.nodes, connector.remap)
        # A time limit in redis-py would cost a task and two timers for each command. Channels have one timer for all.
        # For a connection attempt, redis-py would count the time for which the event loop is blocked. But each Sentinel
        # that does not respond must have a limit of its own, so that the next one is asked.
        own = connect_timeout if connector.kind == "redis+sentinel" else None
        self._clients = Clients(lambda address: connector.asyncio(address, timeout=None, connect_timeout=own))
        self._connect_timeout = connect_timeout
        self._has_large = connector.max_connections != 1
        self._channels: dict[tuple[Address | None, bool], Channel] = {}
        self._is_plain = connector.kind == "redis"
        self._learning = asyncio.Lock()
        self._learning_error: Exception | None = None
        self._tasks: set[Task[None]] = set()
        self._closing = _close_with_loop(self.aclose)
        _begin(self._closing)

    async def run_script(
        self,
        script: Script,
        number: int,
        *values: Any,
        end: float = inf,
        patience: float = inf,
        at_once: bool = False,
    ) -> Any:
        """Run a script by its SHA-1, and by its text if the server does not know it.

        :param number: how many of the values are keys. The node of the first key runs the script.
        :param end: when the time of the command is over, by the clock :attr:`time`.
        :param patience: longest wait for a moving slot, in seconds, within the time of the command.
        :param at_once: send the command now and not at the end of this turn of the event loop, which may be blocked
            until then. Each command that is sent so costs a write.
        :raises TimeoutError: the time is over. The server may still run the script.
        """
        command = pack("EVALSHA", script.sha, number, *values)
        try:
            if not self._is_plain or self._nodes.without_reply:
                return await self._run(command, values[0], end, patience=patience)
            # The fast path: one server, which has replied to the last command.
            channel = self._channel(None, command)
            try:
                return await channel.send(command, end, at_once=at_once)
            except NoScriptError:
                raise
            except Exception as error:
                return await self._run(command, values[0], end, failed=(error, channel))
        except NoScriptError:  # the server was restarted, or this node of a cluster has not seen the script yet
            return await self._run(pack("EVAL", script.text, number, *values), values[0], end, patience=patience)

    async def run_scripts(self, script: Script, calls: Sequence[Sequence[Any]], *, end: float = inf) -> list[Any]:
        """Run a script on one key for each call, concurrently. Returns the replies in the order of the calls.

        :param calls: the key and the arguments of each call.
        :param end: when the time of the commands is over, by the clock :attr:`time`.
        :raises Exception: the error of one call. The other calls may have been executed.
        """
        if not self._is_plain or self._nodes.without_reply:
            return await asyncio.gather(*(self.run_script(script, 1, *call, end=end) for call in calls))
        commands = [pack("EVALSHA", script.sha, 1, *call) for call in calls]
        channels = [self._channel(None, command) for command in commands]
        replies = [channel.submit(command, end) for channel, command in zip(channels, commands, strict=True)]
        results: list[Any] = []
        for call, command, channel, future in zip(calls, commands, channels, replies, strict=True):
            reply = await future
            if isinstance(reply, NoScriptError):
                reply = await self.run_script(script, 1, *call, end=end)
            elif isinstance(reply, Exception):
                reply = await self._run(command, call[0], end, failed=(reply, channel))
            results.append(reply)
        return results

    async def eval(self, text: str, number: int, *values: Any, end: float = inf) -> Any:
        """Run a script by its text."""
        return await self._run(pack("EVAL", text, number, *values), values[0], end)

    async def zrem(self, key: str, member: str) -> Any:
        """Remove a member of a sorted set."""
        return await self._run(pack("ZREM", key, member), key, inf)

    async def scan_iter(self, match: str, count: int, *, seconds: float) -> AsyncIterator[bytes]:
        """Yield each matching key of all nodes, at least once.

        :param seconds: the time limit of each command.
        """
        if not self._is_plain and self._nodes.must_learn(0, get_running_loop().time()):
            with StoreTimeout(seconds):
                await self._learn()
        addresses: list[Address | None] = [*self._nodes.primaries()]
        for address in addresses or [None]:
            cursor: bytes = b"0"
            while True:
                command = pack("SCAN", cursor, "MATCH", match, "COUNT", count)
                cursor, keys = await self._channel(address, command).send(command, self.time.now() + seconds)
                for key in keys:
                    yield key
                if cursor == b"0":
                    break

    async def aclose(self) -> None:
        """Close all connections. The next command opens new ones."""
        for task in self._tasks:
            task.cancel()
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            channel.close()
        for client in self._clients.pop_all():
            with suppress(Exception):
                await client.aclose()
            manager = getattr(client.connection_pool, "sentinel_manager", None)
            for sentinel in manager.sentinels if manager else ():
                await sentinel.aclose()
        await sleep(0)  # the event loop closes the sockets in its next turn

    def retire(self) -> None:
        """Close the connections when the commands on their way have ended. The next command opens new connections. Call
        this method on the event loop of this object."""
        for channel in self._channels.values():
            channel.retire()

    def record_no_reply(self) -> None:
        """Record that a command was cancelled because its time was over. Do not call it if the caller was cancelled."""
        self._nodes.record_no_reply()

    def _channel(self, address: Address | None, command: bytes) -> Channel:
        is_large = len(command) > LARGE_BYTES and self._has_large
        channel = self._channels.get((address, is_large))
        if channel is None or not channel.is_usable:
            connection = self._clients.of(address).connection_pool.make_connection()
            channel = Channel(connection, connect_timeout=self._connect_timeout, time=self.time)
            self._channels[address, is_large] = channel
        return channel

    async def _run(
        self,
        command: bytes,
        key: str | bytes,
        end: float,
        *,
        patience: float = inf,
        failed: tuple[Exception | None, Channel | None] = _NEVER,
    ) -> Any:
        """Send a command until a server has executed it.

        :param failed: the error of a first attempt that was made elsewhere, and its channel.
        """
        now = get_running_loop().time
        patience = min(patience, _MOVING_SECONDS if end == inf else end - self.time.now())
        error, channel = failed
        steps = execution(self._nodes, slot_of(self._nodes, key), now, patience, error=error)
        run = adrive(steps, partial(self._do, _Command(command, end, channel)))
        if end == inf:
            return await run
        # The time limit of the channel does not cover the wait for other servers.
        with StoreTimeout(max(0.0, end - self.time.now()), self.time):
            return await run

    async def _do(self, command: _Command, step: Step) -> Any:
        if isinstance(step, Send):
            if self._nodes.family == "redis+cluster" and step.address is None:
                raise self._learning_error or ConnectionError("no node of the cluster has the slot of the key")
            command.channel = self._channel(step.address, command.packed)
            return await command.channel.send(command.packed, command.end, asking=step.asking)
        if isinstance(step, Learn):
            await self._learn()
        elif isinstance(step, Drop):
            self._drop(step, command.channel)
        elif isinstance(step, Pause):
            await sleep(step.seconds)
        return None

    def _drop(self, step: Drop, used: Channel | None) -> None:
        """Retire the connections to a server. Commands on their way still get their replies: a server that accepts no
        writes sends an error for each."""
        for (address, _), channel in self._channels.items():
            if address == step.address and (channel is used if step.in_use else channel.is_silent):
                channel.retire()

    async def _learn(self) -> None:
        nodes = self._nodes
        if nodes.family == "redis+sentinel":
            nodes.record_request(get_running_loop().time())
            # In a task, because no command need wait for it: a new connection asks Sentinel by itself.
            task = get_running_loop().create_task(self._ask_sentinel())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif not self._learning.locked() or not nodes.primaries():
            async with self._learning:
                if nodes.is_stale or not nodes.primaries():
                    nodes.record_request(get_running_loop().time())
                    await self._ask_cluster()

    async def _ask_sentinel(self) -> None:
        pool = self._clients.of(None).connection_pool
        with suppress(Exception):
            address = await pool.sentinel_manager.discover_master(pool.service_name)
            if self._nodes.primary not in (None, address):
                pool.master_address = address
                for channel in list(self._channels.values()):
                    if channel.address != address:
                        channel.close()
            self._nodes.primary = address

    async def _ask_cluster(self) -> None:
        command = pack("CLUSTER", "SLOTS")
        for address in nodes_to_ask(self._nodes):
            try:
                # A silent node may take longer than the caller waits. The next command then asks another node.
                reply = await self._channel(address, command).send(command, self.time.now() + self._connect_timeout)
            except Exception as error:
                self._learning_error = error
            else:
                if reply:
                    self._nodes.learn(reply, address, now=get_running_loop().time())
                    return


class _Command:
    """A command, and the channel of its last attempt."""

    __slots__ = ("channel", "end", "packed")

    def __init__(self, packed: bytes, end: float, channel: Channel | None) -> None:
        self.packed, self.end, self.channel = packed, end, channel


async def _close_with_loop(close: Callable[[], Awaitable[None]]) -> AsyncGenerator[None]:
    """Close the connections when the event loop shuts down its asynchronous generators, of which this is one.

    Otherwise the garbage collector would find open sockets if nobody closes the store. A task would not do: asyncio
    logs a task that is destroyed because a loop was closed before its tasks were cancelled.
    """
    try:
        yield
    finally:
        await close()


def _begin(generator: AsyncGenerator[None]) -> None:
    """Run a generator to its first ``yield``. Nothing before that awaits."""
    with suppress(StopIteration):
        generator.__anext__().__await__().__next__()
