"""The limiter's store in redis or valkey: one command for each decision, with all windows and all numbers.

Counters lie where ``limits`` keeps them (``LIMITS:LIMITER/...``). The client is redis-py's, one for each event loop,
because connections belong to the loop that opened them.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from redis.asyncio import Redis as Client
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError

from flexmw.kit.store_url import StorageURL
from flexmw.ratelimit.algorithms.base import Algorithm
from flexmw.ratelimit.algorithms.windows import result_of
from flexmw.ratelimit.core import MILLISECOND, Cost, LimitResult, Rate, Slot, costs_of, with_slot
from flexmw.ratelimit.stores.batching import Crowd
from flexmw.ratelimit.stores.redis_script import RENEW, Script, decision_script

__all__ = ["Redis"]


class Redis:
    """Decides by the server's clock."""

    def __init__(self, strategy: Algorithm, url: StorageURL) -> None:
        self._strategy = strategy
        self._url = url
        self._is_cluster = url.scheme.family == "redis+cluster"
        self._plain = decision_script(strategy)
        self._crowd = Crowd()
        self._clients: WeakKeyDictionary[AbstractEventLoop, Any] = WeakKeyDictionary()

    async def decide(
        self,
        digest: str,
        rates: Sequence[Rate],
        cost: Cost,
        *,
        take: bool = True,
        slot: Slot | None = None,
        earlier: Sequence[str] = (),
    ) -> LimitResult:
        if slot is None and take and not earlier and isinstance(cost, int) and cost:
            reply, place = await self._crowd.join(self._count, digest, rates, cost)
        else:
            reply, place = await self._count(digest, rates, cost, int(take), slot, earlier), 0
        found = None
        if rates:
            later = max(0, reply[0] - 1 - place)
            states = self._strategy.redis.states(reply[1:], rates, later * cost if isinstance(cost, int) else 0)
            found = result_of(self._strategy, rates, states, 0, cost, reply[0] > place or reply[0] < 0)
            if found.wait_us:
                found = _in_milliseconds(found)
        if slot is not None:
            found = with_slot(slot, reply[-1], reply[0] < 0, found)
        assert found is not None, "a question asks for a rate or for a slot"  # noqa: S101
        return found

    async def give(
        self, digest: str, rates: Sequence[Rate], cost: Cost, earlier: Sequence[str] = (), *, age: int = 0
    ) -> None:
        """:param age: microseconds since it was taken: what left with its window does not come back from another."""
        await self._count(digest, rates, cost, -1 - age // MILLISECOND, None, earlier)

    async def renew(self, digest: str, slot: Slot) -> None:
        await self._run(RENEW, [self._slots(digest, slot)], [slot.lease_us // MILLISECOND, slot.holder])

    async def release(self, digest: str, slot: Slot) -> None:
        client = await self._client()
        await client.zrem(self._slots(digest, slot), slot.holder)

    async def close(self) -> None:
        """Close this event loop's connections."""
        client = self._clients.pop(get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def _slots(self, digest: str, slot: Slot) -> str:
        """The key of a caller's slots: on the node of the caller's rates."""
        return self._keys(digest, (slot.rate,))[-1]

    def _keys(self, digest: str, rates: Sequence[Rate]) -> list[str]:
        return [f"{start}{digest}{end}" for start, end in _key_parts(self._strategy, tuple(rates))]

    async def _count(
        self,
        digest: str,
        rates: Sequence[Rate],
        cost: Cost,
        mode: int,
        slot: Slot | None = None,
        earlier: Sequence[str] = (),
    ) -> list[Any]:
        keys = self._keys(digest, rates)
        if slot is not None:
            keys.append(self._slots(digest, slot))
        for each in earlier:
            keys += self._keys(each, rates)
            if slot is not None:
                keys.append(self._slots(each, slot))
        values: list[int | str | bytes] = [mode, *_numbers(tuple(rates), tuple(costs_of(rates, cost)))]
        if slot is None and not earlier:
            return await self._run(self._plain, keys, values)  # type: ignore[no-any-return]
        if slot is not None:
            values += slot.limit, slot.lease_us // MILLISECOND, slot.holder
        script = decision_script(self._strategy, slots=slot is not None, moves=bool(earlier))
        return await self._run(script, keys, values)  # type: ignore[no-any-return]

    async def _run(self, script: Script, keys: Sequence[str], values: Sequence[int | str | bytes]) -> Any:
        client = await self._client()
        try:
            return await client.evalsha(script.sha, len(keys), *keys, *values)
        except NoScriptError:  # the server was restarted, or it is a node that has not seen the script yet
            return await client.eval(script.text, len(keys), *keys, *values)

    async def _client(self) -> Any:
        loop = get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = self._connect()
        if self._is_cluster:
            await client.initialize()  # a first command of several at once would find it half done, and fail
        return client

    def _connect(self) -> Any:
        # A decision must not be sent twice: the script may have run although its answer was lost. How long it may take
        # is the ladder's business, which cancels it; a timeout on the socket is a task and two timers for each command.
        options: dict[str, Any] = {
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": None,
            "socket_connect_timeout": 5.0,
        }
        scheme, _, rest = self._url.url.removeprefix("async+").partition("://")
        if self._is_cluster:
            user, found, _ = rest.rpartition("@")
            name, _, password = user.partition(":")
            if found:
                options |= {"username": name or None, "password": password or None}
            cluster: Any = RedisCluster
            return cluster(startup_nodes=[ClusterNode(*node) for node in self._url.nodes], **options)
        scheme = "unix" if self._url.scheme.unix else "rediss" if self._url.scheme.tls else "redis"
        client: Any = Client
        return client.from_url(f"{scheme}://{rest}", **options)


def _in_milliseconds(found: LimitResult) -> LimitResult:
    """The server counts whole milliseconds: a fraction of one may pass without it noticing."""
    wait = -(-found.wait_us // MILLISECOND) * MILLISECOND
    others = tuple(_in_milliseconds(each) if each.wait_us else each for each in found.others)
    return found._replace(wait_us=wait, reset_us=wait, others=others)


@lru_cache(maxsize=4096)
def _key_parts(algorithm: Algorithm, rates: tuple[Rate, ...]) -> list[tuple[str, str]]:
    """The keys of some rates, each as the text before the digest and the text after it."""
    digest = "\0"
    keys = [key for rate in rates for key in algorithm.redis.keys(rate.key(digest, algorithm.name))]
    return [(start, end) for start, _, end in (key.partition(digest) for key in keys)]


@lru_cache(maxsize=4096)
def _numbers(rates: tuple[Rate, ...], costs: tuple[int, ...]) -> list[bytes]:
    """What a script is told of some rates, as it goes over the wire."""
    numbers: list[bytes] = []
    for rate, count in zip(rates, costs, strict=True):
        numbers += b"%d" % count, b"%d" % rate.limit, b"%d" % (rate.window_us // MILLISECOND)
    return numbers
