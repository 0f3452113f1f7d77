"""Parts that the blocking and the asyncio client of a redis or valkey store share.

:mod:`flexmw.kit.redis_blocking` and :mod:`flexmw.kit.redis_async` carry out the steps of :mod:`flexmw.kit.redis_flow`
over clients of redis-py that :mod:`flexmw.kit.redis_client` makes, one for each node of one server, Sentinel or a
cluster. redis-py's own cluster clients are not used. The asyncio client repeats commands that were in flight when it
gets its fifth ``MOVED``, and it sends ``ASKING`` over another connection than the command.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

from redis.crc import key_slot

from flexmw.kit.forked import fork_safe
from flexmw.kit.redis_flow import Address, Nodes

__all__ = ["Clients", "connections_elsewhere", "nodes_to_ask", "reply_after_asking", "slot_of"]


def slot_of(nodes: Nodes, key: str | bytes) -> int:
    """The cluster slot of a key; 0 outside a cluster."""
    if nodes.family != "redis+cluster":
        return 0
    slot: int = key_slot(key.encode() if isinstance(key, str) else key)
    return slot


class Clients:
    """The clients of redis-py, one for each node."""

    def __init__(self, make: Callable[[Address | None], Any]) -> None:
        self._make = make
        self._clients: dict[Address | None, Any] = {}
        self._lock = fork_safe(Lock())

    def of(self, address: Address | None) -> Any:
        """The client of a node, made when it is first needed."""
        client = self._clients.get(address)
        if client is None:
            with self._lock:
                client = self._clients.get(address)
                if client is None:
                    client = self._clients[address] = self._make(address)
        return client

    def pop_all(self) -> list[Any]:
        """Take all clients out, to close them."""
        with self._lock:
            clients, self._clients = list(self._clients.values()), {}
        return clients


def connections_elsewhere(pool: Any, address: Address) -> list[Any]:
    """The connections of a pool that lead to other servers than ``address``, whether they are in use or not."""
    connections = [*pool._available_connections, *pool._in_use_connections]
    return [connection for connection in connections if (connection.host, connection.port) != address]


def nodes_to_ask(nodes: Nodes) -> list[Address]:
    """The nodes to ask for the slots, in turn, until one replies.

    Each request begins with the next node, so that a node that does not reply delays one request, and not all.
    """
    known = nodes.known()
    start = nodes.requests % len(known) if known else 0
    nodes.requests += 1
    return known[start:] + known[:start]


def reply_after_asking(replies: list[Any]) -> Any:
    """The reply to the command after ``ASKING``."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies[-1]
