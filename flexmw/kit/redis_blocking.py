"""Blocking client of a store in redis or valkey, on one server, behind Sentinel or in a cluster.

>>> from flexmw.kit.store_url import parse
>>> store = BlockingNodes(parse("redis://localhost:6379", "storage"), timeout=2.0)  # connects with the first command
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from math import inf
from threading import Lock
from typing import Any, Final

from redis.exceptions import NoScriptError

from flexmw.kit import time_limit
from flexmw.kit.drive import drive
from flexmw.kit.forked import fork_safe
from flexmw.kit.redis_client import Connector
from flexmw.kit.redis_flow import Address, Drop, Learn, Nodes, Send, Step, execution
from flexmw.kit.redis_nodes import Clients, connections_elsewhere, nodes_to_ask, reply_after_asking, slot_of
from flexmw.kit.redis_script import Script, script
from flexmw.kit.store_url import StorageURL

__all__ = ["BlockingNodes"]

_STEPS: Final = 4
"""The steps of one operation that wait: connect, authenticate, send, ask for other servers. Each may take a quarter of
the time."""


class BlockingNodes:
    """Sends commands and blocks. Thread-safe; each command ends within its time limit.

    :param url: a checked URL of a redis family.
    :param timeout: time limit of one operation in seconds, with redirections and a new connection.
    :param step: longest wait for the next bytes, in seconds; ``None``: a quarter of ``timeout``.
    """

    def __init__(self, url: StorageURL, *, timeout: float, step: float | None = None) -> None:
        self._connector = Connector(url)
        self._timeout = timeout
        self._step = timeout / _STEPS if step is None else step
        self._nodes = Nodes(self._connector.kind, self._connector.nodes, self._connector.remap)
        self._clients = Clients(lambda address: self._connector.blocking(address, timeout=self._step))
        self._learning = fork_safe(Lock())
        self._learning_error: Exception | None = None

    def run_script(self, script: Script, number: int, *values: Any, patience: float = inf) -> Any:
        """Run a script by its SHA-1, and by its text if the server does not know it.

        :param number: how many of the values are keys. The node of the first key runs the script.
        :param patience: longest wait for a moving slot, in seconds, within the time of the operation.
        """
        try:
            return self._run(values[0], ("EVALSHA", script.sha, number, *values), patience)
        except NoScriptError:  # the server was restarted, or this node of a cluster has not seen the script yet
            return self._run(values[0], ("EVAL", script.text, number, *values), patience)

    def eval(self, text: str, number: int, *values: Any) -> Any:
        """Run a script by its text."""
        return self._run(values[0], ("EVAL", text, number, *values))

    def zrem(self, key: str, member: str) -> Any:
        """Remove a member of a sorted set."""
        return self._run(key, ("ZREM", key, member))

    def info_memory(self, key: str) -> Any:
        """The section ``memory`` of ``INFO`` of the server that has a key, as a dict."""
        return self._run(key, ("INFO", "memory"))

    def register_script(self, text: str) -> Callable[..., Any]:
        """Return a function ``(keys=[...], args=[...])`` that runs a script."""
        known = script(text)

        def run(*, keys: list[Any], args: list[Any]) -> Any:
            return self.run_script(known, len(keys), *keys, *args)

        return run

    def scan_iter(self, match: str, count: int) -> Iterator[Any]:
        """Yield each matching key of all nodes, at least once."""
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

    def _run(self, key: str | bytes, command: tuple[Any, ...], patience: float = inf) -> Any:
        with time_limit.within(self._timeout):
            patience = min(patience, time_limit.remaining())
            steps = execution(self._nodes, slot_of(self._nodes, key), time.monotonic, patience)
            return drive(steps, partial(self._do, command))

    def _do(self, command: tuple[Any, ...], step: Step) -> Any:
        if isinstance(step, Send):
            if time_limit.remaining() <= 0.0:
                raise TimeoutError("the time of the operation is over")
            if self._nodes.family == "redis+cluster" and step.address is None:
                raise self._learning_error or ConnectionError("no node of the cluster has the slot of the key")
            client = self._clients.of(step.address)
            if not step.asking:
                return client.execute_command(*command)
            with client.pipeline(transaction=False) as pipeline:
                return reply_after_asking(pipeline.execute_command("ASKING").execute_command(*command).execute(False))
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
        # One thread asks. The other threads continue with the known nodes, or wait if none is known.
        must_wait = nodes.family == "redis+cluster" and not nodes.primaries()
        if not self._learning.acquire(timeout=max(0.0, min(time_limit.remaining(), self._timeout)) if must_wait else 0):
            return
        try:
            if must_wait and nodes.primaries():
                return
            nodes.record_request(time.monotonic())
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
                for connection in connections_elsewhere(pool, address):
                    connection.disconnect()
            self._nodes.primary = address

    def _ask_cluster(self) -> None:
        for address in nodes_to_ask(self._nodes):
            try:
                reply = self._clients.of(address).execute_command("CLUSTER", "SLOTS")
            except Exception as error:
                self._learning_error = error
            else:
                if reply:
                    self._nodes.learn(reply, address, now=time.monotonic())
                    return


def _close(client: Any) -> None:
    with suppress(Exception):
        client.close()
    client.connection_pool.disconnect()
    manager = getattr(client.connection_pool, "sentinel_manager", None)
    for sentinel in manager.sentinels if manager else ():
        sentinel.close()
