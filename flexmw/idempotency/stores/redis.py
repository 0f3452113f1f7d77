"""Keys in redis or valkey, for any number of machines.

Every operation is one atomic script on one key, and every key has a time to live. Leases are measured by the server's
clock, so that those of the clients do not matter. A redis that may lose writes loses claims with them: set
``appendonly yes`` and ``appendfsync always`` where neither a kill nor a power cut may lose one.

>>> store = RedisStore("redis://localhost:6379/0")   # connects with the first operation
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha1
from typing import Any, Final, cast

import redis as client
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry

from flexmw.idempotency.stores.open import Held

__all__ = ["RedisStore"]

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
_SHA: Final = sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()
_SCHEMES: Final = {"valkey": "redis", "valkeys": "rediss", "valkey+unix": "unix", "redis+unix": "unix"}


class RedisStore:
    """A :class:`~flexmw.idempotency.stores.open.BlockingStore` over redis-py.

    ``timeout`` in seconds bounds each operation on the wire; a connection that was closed while idle is replaced
    once, which the operations are built for.
    """

    def __init__(
        self, url: str, *, timeout: float = 2.0, cluster: bool = False, nodes: Sequence[tuple[str, int]] = ()
    ) -> None:
        scheme, _, rest = url.partition("://")
        scheme = scheme.lower().removeprefix("async+")
        options: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
        if cluster:
            user, _, _ = rest.rpartition("@")
            name, _, password = user.partition(":")
            starts = [ClusterNode(host, port) for host, port in nodes]
            self._client: Any = _LazyCluster(
                startup_nodes=starts, username=name or None, password=password or None, **options
            )
        else:
            self._client = client.Redis.from_url(
                f"{_SCHEMES.get(scheme, scheme)}://{rest}", retry=Retry(NoBackoff(), 1), **options
            )

    def load(self, key: str) -> Held | None:
        return _held(self._run(key, "load", ""))

    def swap(self, key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float) -> Held | None:
        answer = self._run(key, "swap", token, expected, entry, _milliseconds(lease), _milliseconds(ttl))
        return Held(token, entry, lease) if answer[0] == 1 else _held(answer)

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
        except client.exceptions.NoScriptError:
            return self._client.eval(_SCRIPT, 1, key, *arguments)


class _LazyCluster:
    """redis-py's cluster client asks for the topology when it is made; this one when it is first used."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._made: Any = None

    def close(self) -> None:
        made, self._made = self._made, None
        if made is not None:
            made.close()

    def __getattr__(self, name: str) -> Any:
        if self._made is None:
            self._made = RedisCluster(**self._options)
        return getattr(self._made, name)


def _held(answer: list[Any]) -> Held | None:
    return None if len(answer) < 4 else Held(answer[1].decode(), answer[2], int(answer[3]) / 1e3)


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1e3))


def _literal(prefix: str) -> str:
    return "".join(f"\\{each}" if each in "*?[]\\^" else each for each in prefix)
