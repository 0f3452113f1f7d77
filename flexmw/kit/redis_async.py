"""The asyncio client of a store in redis or valkey, over one server, Sentinel or a cluster."""

from __future__ import annotations

from asyncio import Lock, Task, get_running_loop, sleep
from contextlib import suppress
from functools import partial
from typing import Any, Final

from redis.exceptions import NoScriptError

from flexmw.kit.drive import adrive
from flexmw.kit.redis_client import Connector
from flexmw.kit.redis_flow import Drop, Learn, Nodes, Pause, Send, Step, execution
from flexmw.kit.redis_nodes import Clients, connections_elsewhere, reply_after_asking, rotated, slot_of
from flexmw.kit.redis_script import Script
from flexmw.kit.store_url import StorageURL

__all__ = ["AsyncNodes"]

_MOVING_SECONDS: Final = 0.03
"""Seconds for which an asyncio command waits for a slot that moves. The caller may have a fallback, and limits the time
of the command."""


class AsyncNodes:
    """Sends commands on one event loop. A command that takes too long is cancelled by its caller.

    :param url: a checked URL of a redis family.
    :param connect_timeout: seconds until a connection attempt fails, or a question for other servers.
    """

    def __init__(self, url: StorageURL, *, connect_timeout: float) -> None:
        # The time limit is the caller's, who cancels the command: a socket timeout would cost a task and two timers for
        # each command.
        connector = Connector(url)
        self._nodes = Nodes(connector.kind, connector.nodes)
        self._clients = Clients(
            lambda address: connector.asyncio(address, timeout=None, connect_timeout=connect_timeout)
        )
        self._plain = self._clients.of(None) if connector.kind == "redis" else None
        self._learning = Lock()
        self._learning_error: Exception | None = None
        self._tasks: set[Task[None]] = set()

    async def run_script(self, script: Script, number: int, *values: Any) -> Any:
        """Run a script by its SHA-1, and by its text where the server does not know it.

        :param number: how many of the values are keys. The node of the first key runs the script.
        """
        try:
            if self._plain is None or self._nodes.doubts:
                return await self._run(("EVALSHA", script.sha, number, *values), key=values[0])
            # The measured path: one server that has replied to the last command.
            try:
                return await self._plain.evalsha(script.sha, number, *values)
            except NoScriptError:
                raise
            except Exception as error:
                return await self._run(("EVALSHA", script.sha, number, *values), key=values[0], error=error)
        except NoScriptError:  # the server was restarted, or this node of a cluster has not seen the script yet
            return await self._run(("EVAL", script.text, number, *values), key=values[0])

    async def eval(self, text: str, number: int, *values: Any) -> Any:
        """Run a script by its text."""
        return await self._run(("EVAL", text, number, *values), key=values[0])

    async def zrem(self, key: str, member: str) -> Any:
        """Remove a member of a sorted set."""
        return await self._run(("ZREM", key, member), key=key)

    async def aclose(self) -> None:
        """Close all connections."""
        for task in self._tasks:
            task.cancel()
        for client in self._clients.pop_all():
            with suppress(Exception):
                await client.aclose()
            await client.connection_pool.disconnect()
            manager = getattr(client.connection_pool, "sentinel_manager", None)
            for sentinel in manager.sentinels if manager else ():
                await sentinel.aclose()

    async def _run(self, command: tuple[Any, ...], *, key: str | bytes, error: Exception | None = None) -> Any:
        steps = execution(self._nodes, slot_of(self._nodes, key), get_running_loop().time, _MOVING_SECONDS, error=error)
        return await adrive(steps, partial(self._do, command))

    def unanswered(self) -> None:
        """A command was cancelled because its time was over. (A command whose own caller left says nothing.)"""
        self._nodes.unanswered()

    async def _do(self, command: tuple[Any, ...], step: Step) -> Any:
        if isinstance(step, Send):
            if self._nodes.family == "redis+cluster" and step.address is None:
                raise self._learning_error or ConnectionError("no node of the cluster has the slot of the key")
            client = self._clients.of(step.address)
            if not step.asking:
                return await client.execute_command(*command)
            async with client.pipeline(transaction=False) as pipeline:
                replies = await pipeline.execute_command("ASKING").execute_command(*command).execute(False)
                return reply_after_asking(replies)
        if isinstance(step, Learn):
            await self._learn()
        elif isinstance(step, Drop):
            await self._drop(step)
        elif isinstance(step, Pause):
            await sleep(step.seconds)
        return None

    async def _drop(self, step: Drop) -> None:
        pool = self._clients.of(step.address).connection_pool
        with suppress(Exception):
            await pool.disconnect(inuse_connections=step.in_use)

    async def _learn(self) -> None:
        nodes = self._nodes
        if nodes.family == "redis+sentinel":
            nodes.asked(get_running_loop().time())
            # In a task: no command waits for Sentinel, which a new connection asks by itself.
            task = get_running_loop().create_task(self._ask_sentinel())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif not self._learning.locked() or not nodes.primaries():
            async with self._learning:
                if nodes.is_suspect or not nodes.primaries():
                    nodes.asked(get_running_loop().time())
                    await self._ask_cluster()

    async def _ask_sentinel(self) -> None:
        pool = self._clients.of(None).connection_pool
        with suppress(Exception):
            address = await pool.sentinel_manager.discover_master(pool.service_name)
            if self._nodes.primary not in (None, address):
                pool.master_address = address
                for connection in connections_elsewhere(pool, address):
                    await connection.disconnect(nowait=True)
            self._nodes.primary = address

    async def _ask_cluster(self) -> None:
        for address in rotated(self._nodes):
            try:
                # The caller may wait for less than one silent node: the next command then asks another one.
                reply = await self._clients.of(address).execute_command("CLUSTER", "SLOTS")
            except Exception as error:
                self._learning_error = error
            else:
                if reply:
                    self._nodes.learn(reply, address, now=get_running_loop().time())
                    return
