"""A store in redis or valkey, for any number of machines.

Every operation is one atomic script, on one key or on two keys of one caller, and every key has a time to live. The
server's clock measures leases, so the clocks of the machines do not matter. A server that loses writes also loses
claims: ``appendonly yes`` and ``appendfsync always`` keep them through a kill and a power cut.

:class:`RedisStore` blocks. :mod:`flexmw.idempotency.stores.redis_async` is the same under asyncio.

>>> store = RedisStore("redis://localhost:6379/0")   # connects with the first operation
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from secrets import token_hex
from typing import Any, Final, cast

from flexmw.idempotency.stores import Appended, Held, Piece, Store, StoreOptions, Swap
from flexmw.idempotency.stores.redis_async import AsyncRedisStore
from flexmw.idempotency.stores.redis_log import APPEND, READ, appended, piece
from flexmw.idempotency.stores.redis_script import (
    ASKED,
    ENTRY,
    LATE,
    PAIR,
    PAIR_PATIENCE,
    ServerClock,
    glob_of,
    held_in,
    milliseconds,
    pair_of,
    pair_values,
    swap_of,
    too_late,
)
from flexmw.kit import time_limit
from flexmw.kit.redis_blocking import BlockingNodes
from flexmw.kit.redis_errors import code_of
from flexmw.kit.redis_probe import evicting_policy, probe_redis
from flexmw.kit.storage import parse_storage
from flexmw.kit.store_url import REDIS_FAMILIES, StorageURL, schemes_of

__all__ = ["RedisStore", "from_url"]

_SCHEMES: Final = schemes_of(*REDIS_FAMILIES)


def from_url(url: str, options: StoreOptions) -> Store:
    """The store of a redis or valkey URL, or of a client of redis-py. Connects with the first operation, or now if
    ``options.reach`` or ``options.probe`` says so."""
    checked = parse_storage(url, options.option, schemes=_SCHEMES)
    blocking = RedisStore(checked, timeout=options.timeout)
    if options.reach or options.probe:
        log = logging.getLogger("flexmw.idempotency")
        key = f"{options.prefix}:{{probe{token_hex(8)}}}"

        def probe(client: BlockingNodes) -> None:
            blocking.clock.learn(_probe(client, key))
            _warn_of_eviction(client, key, checked.shown, log)

        probe_redis(checked, options.option, probe, required=options.reach, log=log)
    return AsyncRedisStore(blocking, checked, timeout=options.timeout)


def _probe(client: BlockingNodes, key: str) -> list[Any]:
    """Write two keys, and delete them. Returns a reply with the server's clock."""
    client.run_script(ENTRY, 1, key, "swap", "probe", "", b"", 0, 1000, 2**52)
    client.run_script(ENTRY, 1, key, "extend", "probe", 0, 1000)
    client.run_script(APPEND, 1, key, "generation", "probe", 0, b"", b"", 0, 0, 1000)
    client.run_script(READ, 1, key, "generation", 0, 0)
    swap = "probe", "", b"", 0, 1000
    try:
        client.run_script(PAIR, 2, key, f"{key}:pair", 2**52, *swap, *swap, patience=PAIR_PATIENCE)
    except Exception as error:
        if code_of(error) != "TRYAGAIN":  # the cluster moves the slot, and single keys work meanwhile
            raise
    client.run_script(ENTRY, 1, f"{key}:pair", "drop", "probe")
    reply = cast("list[Any]", client.run_script(ENTRY, 1, key, "load", ""))
    client.run_script(ENTRY, 1, key, "drop", "probe")
    return reply


def _warn_of_eviction(client: BlockingNodes, key: str, shown: str, log: logging.Logger) -> None:
    """Log that the server deletes keys when it is full."""
    policy = evicting_policy(client, key)
    if policy:
        log.warning(
            "The store %s has the maxmemory-policy %s: once it is full, it deletes keys, running ones too, and a "
            "repetition of a request whose key was deleted is executed again. Set maxmemory-policy noeviction: a full "
            "server then refuses new keys.",
            shown,
            policy,
        )


class RedisStore:
    """A :class:`~flexmw.idempotency.stores.BlockingStore` over redis-py, with the logs of responses.

    :param url: a redis or valkey URL, also of a cluster or a unix socket.
    :param timeout: seconds that one operation may take in all.
    :raises ConfigError: for a URL that cannot work.
    """

    def __init__(self, url: str | StorageURL, *, timeout: float = 2.0) -> None:
        checked = url if isinstance(url, StorageURL) else parse_storage(url, "storage", schemes=_SCHEMES)
        self._client = BlockingNodes(checked, timeout=timeout)
        self._timeout = timeout
        self.clock = ServerClock()
        """The server's clock."""

    def load(self, key: str) -> Held | None:
        reply = self._run(key, "load", "")
        self.clock.learn(reply)
        return held_in(reply)

    def swap(self, key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float) -> Held | None:
        with time_limit.within(self._timeout):
            for _ in range(ASKED):
                times = milliseconds(lease), milliseconds(ttl), self.clock.deadline_ms(time_limit.end())
                reply = self._run(key, "swap", token, expected, entry, *times)
                self.clock.learn(reply)
                if reply[0] != LATE:
                    return swap_of(reply, token, entry, lease)
        raise too_late()

    def swap_pair(self, first: Swap, second: Swap) -> tuple[Held | None, Held | None]:
        with time_limit.within(self._timeout):
            for _ in range(ASKED):
                values = pair_values(first, second, self.clock.deadline_ms(time_limit.end()))
                try:
                    reply = self._client.run_script(PAIR, 2, *values, patience=PAIR_PATIENCE)
                except Exception as error:
                    if code_of(error) != "TRYAGAIN":
                        raise
                    return self._swap_each(first, second)
                self.clock.learn(reply)
                if reply[0] != LATE:
                    return pair_of(reply, first, second)
        raise too_late()

    def _swap_each(self, first: Swap, second: Swap) -> tuple[Held | None, Held | None]:
        """The same in two steps. While a cluster moves a slot, no node executes a script on two keys."""
        held = self.swap(*first[:4], lease=first.lease, ttl=first.ttl)
        if held is None or held.token != first.token:
            return held, None
        return held, self.swap(*second[:4], lease=second.lease, ttl=second.ttl)

    def extend(self, key: str, token: str, *, lease: float, ttl: float) -> bool:
        return bool(self._run(key, "extend", token, milliseconds(lease), milliseconds(ttl))[0])

    def extend_many(self, leases: Sequence[tuple[str, str, float, float]]) -> list[bool]:
        with time_limit.within(self._timeout):
            return [self.extend(key, token, lease=lease, ttl=ttl) for key, token, lease, ttl in leases]

    def drop(self, key: str, token: str) -> bool:
        return bool(self._run(key, "drop", token)[0])

    def append(
        self,
        key: str,
        token: str,
        generation: str,
        at: int,
        data: bytes,
        *,
        head: bytes = b"",
        last: bool = False,
        lease: float,
        ttl: float,
    ) -> Appended | None:
        times = milliseconds(lease), milliseconds(ttl)
        return appended(self._client.run_script(APPEND, 1, key, generation, token, at, data, head, int(last), *times))

    def read(self, key: str, generation: str, start: int, limit: int) -> Piece | None:
        return piece(self._client.run_script(READ, 1, key, generation, start, limit))

    def scan(self, prefix: str = "") -> Iterator[tuple[str, Held]]:
        seen: set[str] = set()
        for raw in self._client.scan_iter(match=glob_of(prefix), count=500):
            key = raw.decode()
            held = None if key in seen else self.load(key)
            seen.add(key)
            if held is not None:
                yield key, held

    def close(self) -> None:
        self._client.close()

    def _run(self, key: str, *arguments: str | bytes | int) -> list[Any]:
        return cast("list[Any]", self._client.run_script(ENTRY, 1, key, *arguments))
