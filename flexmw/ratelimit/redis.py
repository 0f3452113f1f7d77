"""The limiter's store in redis or valkey: one command for each decision, with all windows and all numbers.

Counters lie where ``limits`` keeps them (``LIMITS:LIMITER/...``). The client is redis-py's, one for each event loop,
because connections belong to the loop that opened them.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Callable, Sequence
from hashlib import sha1
from typing import Any, Final
from weakref import WeakKeyDictionary

from redis.asyncio import Redis as Client
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError

from flexmw.kit.storage import StorageURL
from flexmw.ratelimit.core import Rate, Strategy, Verdict, verdict
from flexmw.ratelimit.scripts import SCRIPTS

__all__ = ["PREFIX", "Redis"]

PREFIX: Final = "LIMITS:"
_MS: Final = 1000


class Redis:
    """Decides by the server's clock."""

    def __init__(self, strategy: Strategy, url: StorageURL) -> None:
        self._strategy = strategy
        self._url = url
        self._script = SCRIPTS[strategy.name]
        self._sha = sha1(self._script.encode(), usedforsecurity=False).hexdigest()
        self._keys, self._read = _FORMS[strategy.name]
        self._clients: WeakKeyDictionary[AbstractEventLoop, Any] = WeakKeyDictionary()

    async def decide(self, digest: str, rates: Sequence[Rate], cost: int, *, take: bool = True) -> Verdict:
        reply = await self._run(digest, rates, cost, 1, *(() if take else (0,)))
        states = self._read(reply, rates)
        found = verdict(self._strategy, rates, states, 0, cost, reply[0] == 1)
        if found.wait:
            # The server counts whole milliseconds: a fraction of one may pass without it noticing.
            wait = -(-found.wait // _MS) * _MS
            found = found._replace(wait=wait, reset=wait)
        return found

    async def give(self, digest: str, rates: Sequence[Rate], cost: int) -> None:
        await self._run(digest, rates, cost, -1)

    async def close(self) -> None:
        """Close this event loop's connections."""
        client = self._clients.pop(get_running_loop(), None)
        if client is not None:
            await client.aclose()

    async def _run(self, digest: str, rates: Sequence[Rate], cost: int, sign: int, *take: int) -> list[Any]:
        keys: list[str] = []
        values: list[int] = [cost]
        for rate in rates:
            keys += self._keys(rate.key(digest, self._strategy.name))
            values += sign * rate.limit, rate.window // _MS
        values += take
        client = self._client()
        try:
            return await client.evalsha(self._sha, len(keys), *keys, *values)  # type: ignore[no-any-return]
        except NoScriptError:  # the server was restarted, or it is a node that has not seen the script yet
            return await client.eval(self._script, len(keys), *keys, *values)  # type: ignore[no-any-return]

    def _client(self) -> Any:
        loop = get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = self._connect()
        return client

    def _connect(self) -> Any:
        # A decision must not be sent twice: the script may have run although its answer was lost.
        options: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "socket_timeout": 5.0, "socket_connect_timeout": 5.0}
        scheme, _, rest = self._url.url.removeprefix("async+").partition("://")
        if self._url.scheme.family == "redis+cluster":
            user, found, _ = rest.rpartition("@")
            name, _, password = user.partition(":")
            if found:
                options |= {"username": name or None, "password": password or None}
            cluster: Any = RedisCluster
            return cluster(startup_nodes=[ClusterNode(*node) for node in self._url.nodes], **options)
        scheme = "unix" if self._url.scheme.unix else "rediss" if self._url.scheme.tls else "redis"
        client: Any = Client
        return client.from_url(f"{scheme}://{rest}", **options)


class _Glimpse:
    """A log of which only the numbers are known that a verdict asks for."""

    def __init__(self, count: int, leaving: Sequence[int], window: int) -> None:
        self._count, self._window = count, window
        self._oldest_in, self._room_in = leaving

    def used(self, now: int, window: int) -> int:
        return self._count

    def oldest(self, number: int) -> int:
        return (self._room_in or self._oldest_in) - self._window - 1


def _one_key(key: str) -> tuple[str, ...]:
    return (PREFIX + key,)


def _two_keys(key: str) -> tuple[str, ...]:
    return f"{PREFIX}{{{key}}}/-1", f"{PREFIX}{{{key}}}"


def _fixed(reply: list[Any], rates: Sequence[Rate]) -> list[Any]:
    return [(reply[2 * i + 2] * _MS, reply[2 * i + 1]) for i in range(len(rates))]


def _sliding(reply: list[Any], rates: Sequence[Rate]) -> list[Any]:
    return [
        (reply[3 * i + 3] * _MS - rate.window, reply[3 * i + 2], reply[3 * i + 1]) if reply[3 * i + 3] else None
        for i, rate in enumerate(rates)
    ]


def _moving(reply: list[Any], rates: Sequence[Rate]) -> list[Any]:
    return [_Glimpse(reply[3 * i + 1], reply[3 * i + 2 : 3 * i + 4], rate.window) for i, rate in enumerate(rates)]


def _gcra(reply: list[Any], rates: Sequence[Rate]) -> list[Any]:
    return [float(level) for level in reply[1:]]


_FORMS: Final[dict[str, tuple[Callable[[str], tuple[str, ...]], Callable[[list[Any], Sequence[Rate]], list[Any]]]]] = {
    "fixed-window": (_one_key, _fixed),
    "sliding-window-counter": (_two_keys, _sliding),
    "moving-window": (_one_key, _moving),
    "gcra": (_one_key, _gcra),
}
