"""The limiter's store in redis or valkey: one command for each decision, with all windows and all numbers.

Counters lie where ``limits`` keeps them (``LIMITS:LIMITER/...``). The client is redis-py's, one for each event loop,
because connections belong to the loop that opened them.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from hashlib import sha1
from typing import Any, Final, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

from redis.asyncio import Redis as Client
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError

from flexmw.kit.store_url import StorageURL
from flexmw.ratelimit.core import Cost, Rate, Slot, Strategy, Verdict, costs_of, seat, verdict
from flexmw.ratelimit.scripts import RENEW, script
from flexmw.ratelimit.stores.batching import Crowd

__all__ = ["PREFIX", "Redis"]

PREFIX: Final = "LIMITS:"
_MS: Final = 1000


class Redis:
    """Decides by the server's clock."""

    def __init__(self, strategy: Strategy, url: StorageURL) -> None:
        self._strategy = strategy
        self._url = url
        self._is_cluster = url.scheme.family == "redis+cluster"
        self._forms, self._read = _FORMS[strategy.name]
        self._plain = _script(script(strategy.name))
        self._renew = _script(RENEW)
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
    ) -> Verdict:
        if slot is None and take and not earlier and isinstance(cost, int) and cost:
            reply, place = await self._crowd.join(self._count, digest, rates, cost)
        else:
            reply, place = await self._count(digest, rates, cost, int(take), slot, earlier), 0
        found = None
        if rates:
            later = max(0, reply[0] - 1 - place)
            states = self._read(reply, rates, later * cost if isinstance(cost, int) else 0)
            found = verdict(self._strategy, rates, states, 0, cost, reply[0] > place or reply[0] < 0)
            if found.wait:
                found = _in_milliseconds(found)
        if slot is not None:
            found = seat(slot, reply[-1], reply[0] < 0, found)
        assert found is not None, "a question asks for a rate or for a slot"  # noqa: S101
        return found

    async def give(
        self, digest: str, rates: Sequence[Rate], cost: Cost, earlier: Sequence[str] = (), *, age: int = 0
    ) -> None:
        """:param age: microseconds since it was taken: what left with its window does not come back from another."""
        await self._count(digest, rates, cost, -1 - age // _MS, None, earlier)

    async def renew(self, digest: str, slot: Slot) -> None:
        await self._run(self._renew, [self._slots(digest, slot)], [slot.lease // _MS, slot.name])

    async def release(self, digest: str, slot: Slot) -> None:
        client = await self._client()
        await client.zrem(self._slots(digest, slot), slot.name)

    async def close(self) -> None:
        """Close this event loop's connections."""
        client = self._clients.pop(get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def _slots(self, digest: str, slot: Slot) -> str:
        """The key of a caller's slots: on the node of the caller's rates."""
        return self._keys(digest, (slot.rate,))[-1]

    def _keys(self, digest: str, rates: Sequence[Rate]) -> list[str]:
        return [f"{start}{digest}{end}" for start, end in _around(self._forms, self._strategy.name, tuple(rates))]

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
            values += slot.most, slot.lease // _MS, slot.name
        text = script(self._strategy.name, slots=slot is not None, moves=bool(earlier))
        return await self._run(_script(text), keys, values)  # type: ignore[no-any-return]

    async def _run(self, what: _Script, keys: Sequence[str], values: Sequence[int | str | bytes]) -> Any:
        client = await self._client()
        try:
            return await client.evalsha(what.sha, len(keys), *keys, *values)
        except NoScriptError:  # the server was restarted, or it is a node that has not seen the script yet
            return await client.eval(what.text, len(keys), *keys, *values)

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


class _Script(NamedTuple):
    text: str
    sha: str


@cache
def _script(text: str) -> _Script:
    return _Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


def _in_milliseconds(found: Verdict) -> Verdict:
    """The server counts whole milliseconds: a fraction of one may pass without it noticing."""
    wait = -(-found.wait // _MS) * _MS
    others = tuple(_in_milliseconds(each) if each.wait else each for each in found.others)
    return found._replace(wait=wait, reset=wait, others=others)


class _Glimpse:
    """A log of which only the numbers are known that a verdict asks for."""

    def __init__(self, count: int, leaving: Sequence[int], window: int) -> None:
        self._count, self._window = count, window
        self._oldest_in, self._room_in = leaving

    def used(self, now: int, window: int) -> int:
        return self._count

    def oldest(self, number: int) -> int:
        return (self._room_in or self._oldest_in) - self._window - 1


_ONE_KEY: Final = (PREFIX + "{}",)
_TWO_KEYS: Final = (f"{PREFIX}{{{{{{}}}}}}/-1", f"{PREFIX}{{{{{{}}}}}}")


@lru_cache(maxsize=4096)
def _around(forms: tuple[str, ...], strategy: str, rates: tuple[Rate, ...]) -> list[tuple[str, str]]:
    """What stands before and behind the digest in the keys of some rates."""
    mark = "\0"
    found = [form.format(rate.key(mark, strategy)).partition(mark) for rate in rates for form in forms]
    return [(start, end) for start, _, end in found]


@lru_cache(maxsize=4096)
def _numbers(rates: tuple[Rate, ...], costs: tuple[int, ...]) -> list[bytes]:
    """What a script is told of some rates, as it goes over the wire."""
    numbers: list[bytes] = []
    for rate, count in zip(rates, costs, strict=True):
        numbers += b"%d" % count, b"%d" % rate.limit, b"%d" % (rate.window // _MS)
    return numbers


# The states after what an answer admitted, less what was taken for those who asked later in the same command.


def _fixed(reply: list[Any], rates: Sequence[Rate], less: int) -> list[Any]:
    return [(reply[2 * i + 2] * _MS, reply[2 * i + 1] - less) for i in range(len(rates))]


def _sliding(reply: list[Any], rates: Sequence[Rate], less: int) -> list[Any]:
    return [
        (reply[3 * i + 3] * _MS - rate.window, reply[3 * i + 2] - less, reply[3 * i + 1]) if reply[3 * i + 3] else None
        for i, rate in enumerate(rates)
    ]


def _moving(reply: list[Any], rates: Sequence[Rate], less: int) -> list[Any]:
    return [
        _Glimpse(reply[3 * i + 1] - less, reply[3 * i + 2 : 3 * i + 4], rate.window) for i, rate in enumerate(rates)
    ]


def _gcra(reply: list[Any], rates: Sequence[Rate], less: int) -> list[Any]:
    return [float(reply[i + 1]) - less * rate.window / rate.limit for i, rate in enumerate(rates)]


_Form: TypeAlias = tuple[tuple[str, ...], Callable[[list[Any], Sequence[Rate], int], list[Any]]]

_FORMS: Final[dict[str, _Form]] = {
    "fixed-window": (_ONE_KEY, _fixed),
    "sliding-window-counter": (_TWO_KEYS, _sliding),
    "moving-window": (_ONE_KEY, _moving),
    "gcra": (_ONE_KEY, _gcra),
}
