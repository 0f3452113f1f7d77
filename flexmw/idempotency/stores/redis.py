"""A store in redis or valkey, for any number of machines.

Every operation is one atomic script on one key, and every key has a time to live. The server's clock measures leases,
so the clocks of the machines do not matter. A server that loses writes also loses claims: ``appendonly yes`` and
``appendfsync always`` keep them through a kill and a power cut.

>>> store = RedisStore("redis://localhost:6379/0")   # connects with the first operation
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from secrets import token_hex
from typing import Any, Final, cast

from flexmw.idempotency.stores import Appended, Held, Piece, Store, StoreOptions
from flexmw.idempotency.stores.redis_log import APPEND, READ, appended, piece
from flexmw.idempotency.stores.threads import Threaded
from flexmw.kit import time_limit
from flexmw.kit.redis_blocking import BlockingNodes
from flexmw.kit.redis_probe import probe_redis
from flexmw.kit.redis_script import script
from flexmw.kit.storage import parse_storage
from flexmw.kit.store_url import REDIS_FAMILIES, StorageURL, schemes_of

__all__ = ["RedisStore", "from_url"]

_SCRIPT: Final = script(
    """
local key, op, token = KEYS[1], ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local clock = string.format('%.0f', now)
local held = redis.call('HMGET', key, 'token', 'until', 'lease', 'entry')
local found = held[1] or ''
local function write(entry, lease, ttl)
  -- A full server refuses the first write that needs room, and no later one of the script: whoever holds the key
  -- already renews its lease and stores its response, and a new key is refused.
  if found ~= '' then redis.call('PEXPIRE', key, math.max(ttl, lease, 1)) end
  if entry then
    if found ~= '' then redis.call('DEL', key) end  -- the log of the response, too
    redis.call('HSET', key, 'token', token, 'entry', entry)
  end
  redis.call('HSET', key, 'until', string.format('%.0f', now + lease), 'lease', lease)
  redis.call('PEXPIRE', key, math.max(ttl, lease, 1))
end
if op == 'swap' then
  if found == ARGV[3] and found ~= token then
    -- A server that was frozen carries out what lies in its buffers, long after the client was told that nothing ran.
    if now > tonumber(ARGV[7]) then return {2, clock} end
    write(ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]))
    return {1, clock}
  end
elseif op == 'extend' then
  if found ~= token then return {0} end
  write(false, tonumber(ARGV[3]), tonumber(ARGV[4]))
  return {1}
elseif op == 'drop' then
  if found ~= token then return {0} end
  redis.call('DEL', key)
  return {1}
end
if found == '' then return {0, clock} end
local left = tonumber(held[2]) - now
if left > tonumber(held[3]) then left = 0 end
return {0, found, held[4], string.format('%.0f', left), clock}
"""
)
_SCHEMES: Final = schemes_of(*REDIS_FAMILIES)
_LATE: Final = 2
"""The reply to a write whose deadline is over."""

_ASKED: Final = 3
"""How often a write is sent: once to learn the server's time, once more where its clock was set back."""


def from_url(url: str, options: StoreOptions) -> Store:
    """The store of a redis or valkey URL, or of a client of redis-py. Connects with the first operation, or now if
    ``options.reach`` or ``options.probe`` says so."""
    checked = parse_storage(url, options.option, schemes=_SCHEMES)
    if options.reach or options.probe:
        log = logging.getLogger("flexmw.idempotency")
        key = f"{options.prefix}:{{probe{token_hex(8)}}}"
        probe_redis(checked, options.option, lambda client: _probe(client, key), required=options.reach, log=log)
    return Threaded(RedisStore(checked, timeout=options.timeout))


def _probe(client: BlockingNodes, key: str) -> None:
    """Write a key and delete it."""
    client.run_script(_SCRIPT, 1, key, "swap", "probe", "", b"", 0, 1000, 2**52)
    client.run_script(_SCRIPT, 1, key, "extend", "probe", 0, 1000)
    client.run_script(APPEND, 1, key, "generation", "probe", 0, b"", b"", 0, 0, 1000)
    client.run_script(READ, 1, key, "generation", 0, 0)
    client.run_script(_SCRIPT, 1, key, "drop", "probe")


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
        self._offset_ms: float | None = None
        """The server's clock minus this process's monotonic clock, not more than the true difference."""

    def load(self, key: str) -> Held | None:
        return _held(self._timed(key, "load", ""))

    def swap(self, key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float) -> Held | None:
        with time_limit.within(self._timeout):
            for _ in range(_ASKED):
                times = _milliseconds(lease), _milliseconds(ttl), self._deadline_ms()
                reply = self._timed(key, "swap", token, expected, entry, *times)
                if reply[0] != _LATE:
                    return Held(token, entry, lease) if reply[0] == 1 else _held(reply)
        raise TimeoutError("the write has arrived too late at the store, which has not carried it out")

    def extend(self, key: str, token: str, *, lease: float, ttl: float) -> bool:
        return bool(self._run(key, "extend", token, _milliseconds(lease), _milliseconds(ttl))[0])

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
        times = _milliseconds(lease), _milliseconds(ttl)
        return appended(self._client.run_script(APPEND, 1, key, generation, token, at, data, head, int(last), *times))

    def read(self, key: str, generation: str, start: int, limit: int) -> Piece | None:
        return piece(self._client.run_script(READ, 1, key, generation, start, limit))

    def scan(self, prefix: str = "") -> Iterator[tuple[str, Held]]:
        seen: set[str] = set()
        for raw in self._client.scan_iter(match=_literal(prefix) + "*", count=500):
            key = raw.decode()
            held = None if key in seen else self.load(key)
            seen.add(key)
            if held is not None:
                yield key, held

    def close(self) -> None:
        self._client.close()

    def _deadline_ms(self) -> int:
        """When a write that is sent now must have been carried out, by the server's clock in milliseconds. Without an
        earlier reply nobody knows: the server then refuses the write, and tells the time."""
        return 0 if self._offset_ms is None else int(time.monotonic() * 1e3 + self._offset_ms + self._left() * 1e3)

    def _left(self) -> float:
        return max(0.0, min(time_limit.remaining(), self._timeout))

    def _timed(self, key: str, *arguments: str | bytes | int) -> list[Any]:
        reply = self._run(key, *arguments)
        self._offset_ms = int(reply[-1]) - time.monotonic() * 1e3
        return reply

    def _run(self, key: str, *arguments: str | bytes | int) -> list[Any]:
        return cast("list[Any]", self._client.run_script(_SCRIPT, 1, key, *arguments))


def _held(reply: list[Any]) -> Held | None:
    return None if len(reply) < 4 else Held(reply[1].decode(), reply[2], int(reply[3]) / 1e3)


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1e3))


def _literal(prefix: str) -> str:
    """A pattern of redis that matches the prefix itself."""
    return "".join(f"\\{char}" if char in "*?[]\\^" else char for char in prefix)
