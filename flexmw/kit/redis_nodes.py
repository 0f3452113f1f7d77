"""Clients of a store in redis or valkey: a blocking and an asyncio one, over one server, Sentinel or a cluster.

Both carry out the steps of :mod:`flexmw.kit.redis_flow` over clients of redis-py that :mod:`flexmw.kit.redis_client`
makes, one for each node. redis-py's own cluster clients are not used: the asyncio one repeats commands that were in
flight when it gets its fifth ``MOVED``, and sends ``ASKING`` over another connection than the command.

>>> from flexmw.kit.store_url import parse
>>> store = BlockingNodes(parse("redis://localhost:6379", "storage"), timeout=2.0)  # connects with the first command
"""

from __future__ import annotations

import time
from asyncio import Lock, Task, get_running_loop, sleep
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from threading import Lock as ThreadLock
from typing import Any, Final

from redis.crc import key_slot
from redis.exceptions import NoScriptError

from flexmw.kit import time_limit
from flexmw.kit.redis_client import Address, Connector
from flexmw.kit.redis_flow import SLOTS, Drop, Learn, Nodes, Pause, Send, Step, execution
from flexmw.kit.store_url import StorageURL

__all__ = ["AsyncNodes", "BlockingNodes"]

_STEPS: Final = 4
"""Waits of one operation: connect, authenticate, send, ask for other servers. Each may take its part of the time."""

_MOVING_SECONDS: Final = 0.03
"""Seconds for which an asyncio command waits for a slot that moves. Its caller may know a better way; its time is
limited from outside."""


def _slot(nodes: Nodes, key: str | bytes) -> int:
    if nodes.family != "redis+cluster":
        return 0
    slot: int = key_slot(key.encode() if isinstance(key, str) else key)
    return slot


class _Clients:
    """The clients of redis-py, one for each node."""

    def __init__(self, make: Callable[[Address | None], Any]) -> None:
        self._make = make
        self._clients: dict[Address | None, Any] = {}
        self._lock = ThreadLock()

    def of(self, address: Address | None) -> Any:
        client = self._clients.get(address)
        if client is None:
            with self._lock:
                client = self._clients.get(address)
                if client is None:
                    client = self._clients[address] = self._make(address)
        return client

    def pop_all(self) -> list[Any]:
        with self._lock:
            clients, self._clients = list(self._clients.values()), {}
        return clients


class BlockingNodes:
    """Sends commands and blocks. Safe for threads, and each command ends in time.

    :param url: a checked URL of a redis family.
    :param timeout: seconds that one operation may take in all, redirections and a new connection included.
    :param step: seconds that it may wait for the next bytes; ``None``: a quarter of ``timeout``.
    """

    def __init__(self, url: StorageURL, *, timeout: float, step: float | None = None) -> None:
        self._connector = Connector(url)
        self._timeout = timeout
        self._step = timeout / _STEPS if step is None else step
        self._nodes = Nodes(self._connector.kind, self._connector.nodes)
        self._clients = _Clients(lambda address: self._connector.blocking(address, timeout=self._step))
        self._learning = ThreadLock()
        self._learning_error: Exception | None = None

    def evalsha(self, sha: str, number: int, *values: Any) -> Any:
        """Run a script that the server knows. :raises NoScriptError: it does not know the script."""
        return self._run(values[0], ("EVALSHA", sha, number, *values))

    def eval(self, text: str, number: int, *values: Any) -> Any:
        """Run a script by its text."""
        return self._run(values[0], ("EVAL", text, number, *values))

    def zrem(self, key: str, member: str) -> Any:
        """Remove a member of a sorted set."""
        return self._run(key, ("ZREM", key, member))

    def register_script(self, text: str) -> Callable[..., Any]:
        """A function ``(keys=[...], args=[...])`` that runs a script, and sends its text where a server lacks it."""
        from hashlib import sha1

        sha = sha1(text.encode(), usedforsecurity=False).hexdigest()

        def run(*, keys: list[Any], args: list[Any]) -> Any:
            try:
                return self.evalsha(sha, len(keys), *keys, *args)
            except NoScriptError:
                return self.eval(text, len(keys), *keys, *args)

        return run

    def scan_iter(self, match: str, count: int) -> Iterator[Any]:
        """Every key that matches, on all nodes, at least once."""
        with time_limit.within(self._timeout):
            if self._nodes.must_learn(0, time.monotonic()):
                self._learn()
        addresses: list[Address | None] = [*self._nodes.primaries()]
        for address in addresses or [None]:
            yield from self._clients.of(address).scan_iter(match=match, count=count)

    def close(self) -> None:
        """Close all connections. The next command opens new ones."""
        for client in self._clients.pop_all():
            _close(client)

    def _run(self, key: str | bytes, command: tuple[Any, ...]) -> Any:
        with time_limit.within(self._timeout):
            patience = time_limit.remaining()
            steps = execution(self._nodes, _slot(self._nodes, key), time.monotonic, patience)
            return self._drive(steps, command)

    def _drive(self, steps: Generator[Step, Any, Any], command: tuple[Any, ...]) -> Any:
        value: Any = None
        error: Exception | None = None
        while True:
            try:
                step = steps.send(value) if error is None else steps.throw(error)
            except StopIteration as end:
                return end.value
            value = error = None
            try:
                value = self._do(step, command)
            except Exception as raised:
                error = raised

    def _do(self, step: Step, command: tuple[Any, ...]) -> Any:
        if isinstance(step, Send):
            if time_limit.remaining() <= 0.0:
                raise TimeoutError("the time of the operation is over")
            if self._nodes.family == "redis+cluster" and step.address is None:
                raise self._learning_error or ConnectionError("no node of the cluster has the slot of the key")
            client = self._clients.of(step.address)
            if not step.asking:
                return client.execute_command(*command)
            with client.pipeline(transaction=False) as pipeline:
                return _of_asking(pipeline.execute_command("ASKING").execute_command(*command).execute(False))
        if isinstance(step, Learn):
            self._learn()
        elif isinstance(step, Drop):
            with suppress(Exception):
                self._clients.of(step.address).connection_pool.disconnect(inuse_connections=step.in_use)
        else:
            time.sleep(step.seconds)
        return None

    def _learn(self) -> None:
        nodes = self._nodes
        # One thread asks. The others go on with what is known, or wait for it where nothing is.
        must_wait = nodes.family == "redis+cluster" and not nodes.primaries()
        if not self._learning.acquire(timeout=max(0.0, min(time_limit.remaining(), self._timeout)) if must_wait else 0):
            return
        try:
            if must_wait and nodes.primaries():
                return
            nodes.asked(time.monotonic())
            if nodes.family == "redis+sentinel":
                self._ask_sentinel()
            elif nodes.family == "redis+cluster":
                self._ask_cluster()
        finally:
            self._learning.release()

    def _ask_sentinel(self) -> None:
        pool = self._clients.of(None).connection_pool
        with suppress(Exception):
            address = pool.sentinel_manager.discover_master(pool.service_name)
            if self._nodes.primary not in (None, address):
                pool.proxy.master_address = address
                for connection in _elsewhere(pool, address):
                    connection.disconnect()
            self._nodes.primary = address

    def _ask_cluster(self) -> None:
        for address in _rotated(self._nodes):
            try:
                reply = self._clients.of(address).execute_command("CLUSTER", "SLOTS")
            except Exception as error:
                self._learning_error = error
            else:
                if reply:
                    self._nodes.learn(reply, address, now=time.monotonic())
                    return


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
        self._clients = _Clients(
            lambda address: connector.asyncio(address, timeout=None, connect_timeout=connect_timeout)
        )
        self._plain = self._clients.of(None) if connector.kind == "redis" else None
        self._learning = Lock()
        self._learning_error: Exception | None = None
        self._tasks: set[Task[None]] = set()

    async def evalsha(self, sha: str, number: int, *values: Any) -> Any:
        """Run a script that the server knows. :raises NoScriptError: it does not know the script."""
        if self._plain is None or self._nodes.doubts:
            return await self._run(("EVALSHA", sha, number, *values), key=values[0])
        # The measured path: one server that has replied to the last command.
        try:
            return await self._plain.evalsha(sha, number, *values)
        except NoScriptError:
            raise
        except Exception as error:
            return await self._run(("EVALSHA", sha, number, *values), key=values[0], error=error)

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
        steps = execution(self._nodes, _slot(self._nodes, key), get_running_loop().time, _MOVING_SECONDS, error=error)
        value: Any = None
        error = None
        while True:
            try:
                step = steps.send(value) if error is None else steps.throw(error)
            except StopIteration as end:
                return end.value
            value = error = None
            try:
                value = await self._do(step, command)
            except Exception as raised:
                error = raised

    def unanswered(self) -> None:
        """A command was cancelled because its time was over. (A command whose own caller left says nothing.)"""
        self._nodes.unanswered()

    async def _do(self, step: Step, command: tuple[Any, ...]) -> Any:
        if isinstance(step, Send):
            if self._nodes.family == "redis+cluster" and step.address is None:
                raise self._learning_error or ConnectionError("no node of the cluster has the slot of the key")
            client = self._clients.of(step.address)
            if not step.asking:
                return await client.execute_command(*command)
            async with client.pipeline(transaction=False) as pipeline:
                replies = await pipeline.execute_command("ASKING").execute_command(*command).execute(False)
                return _of_asking(replies)
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
                for connection in _elsewhere(pool, address):
                    await connection.disconnect(nowait=True)
            self._nodes.primary = address

    async def _ask_cluster(self) -> None:
        for address in _rotated(self._nodes):
            try:
                # The caller may wait for less than one silent node: the next command then asks another one.
                reply = await self._clients.of(address).execute_command("CLUSTER", "SLOTS")
            except Exception as error:
                self._learning_error = error
            else:
                if reply:
                    self._nodes.learn(reply, address, now=get_running_loop().time())
                    return


def _elsewhere(pool: Any, address: Address) -> list[Any]:
    """The connections of a pool to other servers, those in use too."""
    connections = [*pool._available_connections, *pool._in_use_connections]
    return [connection for connection in connections if (connection.host, connection.port) != address]


def _rotated(nodes: Nodes) -> list[Address]:
    """The nodes to ask for the slots. Each question begins with another one, so that none asks a silent node twice."""
    known = nodes.known()
    nodes.turn = (nodes.turn + 1) % SLOTS
    at = nodes.turn % len(known) if known else 0
    return known[at:] + known[:at]


def _of_asking(replies: list[Any]) -> Any:
    """The reply to the command after ``ASKING``."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies[-1]


def _close(client: Any) -> None:
    with suppress(Exception):
        client.close()
    client.connection_pool.disconnect()
    manager = getattr(client.connection_pool, "sentinel_manager", None)
    for sentinel in manager.sentinels if manager else ():
        sentinel.close()
