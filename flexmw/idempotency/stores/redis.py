"""A store in redis or valkey, for any number of machines.

Every operation is one atomic script on one key, and every key has a time to live. The server's clock measures leases,
so the clocks of the machines do not matter. A server that loses writes also loses claims: ``appendonly yes`` and
``appendfsync always`` keep them through a kill and a power cut.

>>> store = RedisStore("redis://localhost:6379/0")   # connects with the first operation
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha1
from typing import Any, Final, cast

from redis.exceptions import NoScriptError

from flexmw.idempotency.stores import Held, Store, StoreOptions
from flexmw.idempotency.stores.threads import Threaded
from flexmw.kit.redis_nodes import BlockingNodes
from flexmw.kit.store_url import REDIS_FAMILIES, parse, probe, schemes_of

__all__ = ["RedisStore", "from_url"]

_SCRIPT: Final = """
local key, op, token = KEYS[1], ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held = redis.call('HMGET', key, 'token', 'until', 'lease', 'entry')
local found = held[1] or ''
local function write(entry, lease, ttl)
  if entry then redis.call('HSET', key, 'token', token, 'entry', entry) end
  redis.call('HSET', key, 'until', string.format('%.0f', now + lease), 'lease', lease)
  redis.call('PEXPIRE', key, math.max(ttl, lease, 1))
end
if op == 'swap' then
  if found == ARGV[3] and found ~= token then
    write(ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]))
    return {1}
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
if found == '' then return {0} end
local left = tonumber(held[2]) - now
if left > tonumber(held[3]) then left = 0 end
return {0, found, held[4], string.format('%.0f', left)}
"""
_SCHEMES: Final = schemes_of(*REDIS_FAMILIES)
_SHA: Final = sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


def from_url(url: str, options: StoreOptions) -> Store:
    """The store of a redis or valkey URL. Connects with the first operation, or now if ``options.reach`` says so."""
    if options.reach:
        probe(parse(url, options.option), options.option)
    return Threaded(RedisStore(url, timeout=options.timeout))


class RedisStore:
    """A :class:`~flexmw.idempotency.stores.BlockingStore` over redis-py.

    :param url: a redis or valkey URL, also of a cluster or a unix socket.
    :param timeout: seconds that one operation may take on the wire.
    :raises ConfigError: for a URL that cannot work.
    """

    def __init__(self, url: str, *, timeout: float = 2.0) -> None:
        self._client = BlockingNodes(parse(url, "storage", schemes=_SCHEMES), timeout=timeout)

    def load(self, key: str) -> Held | None:
        return _held(self._run(key, "load", ""))

    def swap(self, key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float) -> Held | None:
        reply = self._run(key, "swap", token, expected, entry, _milliseconds(lease), _milliseconds(ttl))
        return Held(token, entry, lease) if reply[0] == 1 else _held(reply)

    def extend(self, key: str, token: str, *, lease: float, ttl: float) -> bool:
        return bool(self._run(key, "extend", token, _milliseconds(lease), _milliseconds(ttl))[0])

    def drop(self, key: str, token: str) -> bool:
        return bool(self._run(key, "drop", token)[0])

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

    def _run(self, key: str, *arguments: str | bytes | int) -> list[Any]:
        return cast("list[Any]", self._script(key, arguments))

    def _script(self, key: str, arguments: Sequence[str | bytes | int]) -> Any:
        try:
            return self._client.evalsha(_SHA, 1, key, *arguments)
        except NoScriptError:
            return self._client.eval(_SCRIPT, 1, key, *arguments)


def _held(reply: list[Any]) -> Held | None:
    return None if len(reply) < 4 else Held(reply[1].decode(), reply[2], int(reply[3]) / 1e3)


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1e3))


def _literal(prefix: str) -> str:
    """A pattern of redis that matches the prefix itself."""
    return "".join(f"\\{char}" if char in "*?[]\\^" else char for char in prefix)
