"""The store in Redis or Valkey: one command for each decision, whatever the number of rates.

Counters are under the keys of ``limits`` (``LIMITS:LIMITER/...``). Each event loop has a client of its own, because
connections belong to the loop that opened them.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from secrets import token_hex
from typing import Any, Final
from weakref import WeakKeyDictionary

from flexmw.kit.redis_async import AsyncNodes
from flexmw.kit.redis_blocking import BlockingNodes
from flexmw.kit.redis_errors import code_of
from flexmw.kit.store_url import StorageURL
from flexmw.ratelimit.algorithms import Algorithm
from flexmw.ratelimit.algorithms.windows import result_of
from flexmw.ratelimit.core import MILLISECOND, SECOND, Check, LimitResult, Rate, Slot, with_slot
from flexmw.ratelimit.rates import parse_rates
from flexmw.ratelimit.stores.batching import Batcher
from flexmw.ratelimit.stores.redis_script import RENEW, decision_script

__all__ = ["RedisStore"]

_NO_SLOTS: Final = "redis.call('ZADD', KEYS[1], 0, '') redis.call('PEXPIRE', KEYS[1], ARGV[1])"
"""Lua that makes a set of slots none of which is taken: the lease of the only one has ended."""

_CONNECT_SECONDS: Final = 5.0
"""Seconds until a connection attempt fails. A decision waits for ``store_timeout`` at most."""


class RedisStore:
    """Counts by the server's clock."""

    def __init__(self, algorithm: Algorithm, url: StorageURL) -> None:
        self._algorithm = algorithm
        self._url = url
        self._scripts = {
            (slots, moves): decision_script(algorithm, slots=slots, moves=moves)
            for slots in (False, True)
            for moves in (False, True)
        }
        self._batcher = Batcher()
        self._clients: WeakKeyDictionary[AbstractEventLoop, Any] = WeakKeyDictionary()

    async def decide(self, check: Check) -> LimitResult:
        """Check every rate and the slot, then take all of them or nothing."""
        _, rates, costs, slot, earlier, take = check
        # Equal costs only, so that one number says what later checks of a batch took. With a slot, checks are not
        # equal: each has a holder of its own.
        if slot is None and take and not earlier and costs[0] and costs.count(costs[0]) == len(costs):
            reply, position = await self._batcher.send(self._run, check)
            later = max(0, reply[0] - 1 - position)
        else:
            reply, position, later = await self._run(check, int(take)), 0, 0
        result = None
        if rates:
            states = self._algorithm.redis.states(reply[1:], rates, later * costs[0])
            result = result_of(self._algorithm, rates, states, 0, costs, reply[0] > position or reply[0] < 0)
            if result.wait_us:
                result = _in_milliseconds(result)
        if slot is not None:
            result = with_slot(slot, reply[-1], reply[0] < 0, result)
        assert result is not None, "a check has a rate or a slot"  # noqa: S101
        return result

    async def refund(self, check: Check, age_us: int = 0) -> None:
        """Give the costs of a check back; a negative cost is charged without a check.

        :param age_us: microseconds since the costs were taken.
        """
        await self._run(check, -1 - age_us // MILLISECOND)

    async def renew(self, digest: str, slot: Slot, *, takes: bool = False) -> bool:
        """Begin the lease of a slot again.

        :param takes: take the slot if it is free, whatever the limit.
        :returns: whether the slot is held.
        """
        key, more = self._slot_key(digest, slot), ("1",) if takes else ()
        return bool(await self._client().run_script(RENEW, 1, key, slot.lease_us // MILLISECOND, slot.holder, *more))

    async def release(self, digest: str, slot: Slot) -> None:
        """Give a slot back. Nothing happens if it is not taken."""
        await self._client().zrem(self._slot_key(digest, slot), slot.holder)

    def probe(self, client: BlockingNodes, *, prefix: str, slots: bool) -> None:
        """Take one request of a caller who does not exist, and delete what that has left. Blocks.

        :param client: where to send the commands.
        :param prefix: the beginning of the keys.
        :param slots: whether to take, renew and give back a slot too.
        """
        digest = f"probe{token_hex(8)}"
        slot = Slot("probe", 1, SECOND, prefix) if slots else None
        rates = parse_rates("1/second", prefix=prefix)
        keys = self._keys(digest, rates, slot)
        values: list[int | str | bytes] = [1, *_arguments(rates, (1,))]
        scripts = [(self._scripts[slots, False], keys, values)]
        if slot is not None:
            values += slot.limit, slot.lease_us // MILLISECOND, slot.holder
            scripts.append((RENEW, keys[-1:], [slot.lease_us // MILLISECOND, slot.holder]))
        for script, script_keys, script_values in scripts:
            client.register_script(script.text)(keys=script_keys, args=script_values)
        if slot is not None:
            client.zrem(keys[-1], slot.holder)
        with suppress(Exception):  # the keys expire in a second anyway
            client.eval("return redis.call('DEL', unpack(KEYS))", len(keys), *keys)

    def record_no_reply(self) -> None:
        """Record that an operation has taken longer than ``store_timeout``."""
        self._client().record_no_reply()

    async def close(self) -> None:
        """Close the connections of this event loop."""
        client = self._clients.pop(get_running_loop(), None)
        if client is not None:
            await client.aclose()

    async def _run(self, check: Check, mode: int) -> list[Any]:
        """Run the script of a check. ``mode`` is ``ARGV[1]``: see ``redis_script``."""
        digest, rates, costs, slot, earlier, _ = check
        keys = self._keys(digest, rates, slot)
        for earlier_digest in earlier:
            keys += self._keys(earlier_digest, rates, slot)
        values: list[int | str | bytes] = [mode, *_arguments(rates, costs)]
        if slot is not None:
            values += slot.limit, slot.lease_us // MILLISECOND, slot.holder
        script = self._scripts[slot is not None, bool(earlier)]
        try:
            return await self._client().run_script(script, len(keys), *keys, *values)  # type: ignore[no-any-return]
        except Exception as error:
            if code_of(error) != "TRYAGAIN":
                raise
        await self._make_keys(keys, rates, slot)
        return await self._client().run_script(script, len(keys), *keys, *values)  # type: ignore[no-any-return]

    async def _make_keys(self, keys: Sequence[str], rates: tuple[Rate, ...], slot: Slot | None) -> None:
        """Make the keys of a caller that are missing, each without requests.

        While a cluster moves a slot, no node carries out a script one of whose keys does not exist, however long the
        move takes. A script with a single key is carried out, by the node that has or would have the key.
        """
        client, width = self._client(), len(self._algorithm.redis.keys(""))
        for place, key in enumerate(keys):
            rate = place // width
            is_slots = slot is not None and rate >= len(rates)
            text = _NO_SLOTS if is_slots else self._algorithm.redis.empty
            window_us = slot.lease_us if is_slots and slot is not None else rates[rate % len(rates)].window_us
            await client.eval(text, 1, key, self._algorithm.lifetime_windows * window_us // MILLISECOND)

    def _keys(self, digest: str, rates: tuple[Rate, ...], slot: Slot | None) -> list[str]:
        keys = [f"{start}{digest}{end}" for start, end in _key_parts(self._algorithm, rates)]
        if slot is not None:
            keys.append(self._slot_key(digest, slot))
        return keys

    def _slot_key(self, digest: str, slot: Slot) -> str:
        """The key of a caller's slots: on the node of the caller's counters."""
        start, end = _key_parts(self._algorithm, (slot.rate,))[-1]
        return f"{start}{digest}{end}"

    def _client(self) -> Any:
        loop = get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = self._connect()
        return client

    def _connect(self) -> Any:
        return AsyncNodes(self._url, connect_timeout=_CONNECT_SECONDS)


def _in_milliseconds(result: LimitResult) -> LimitResult:
    """The waits rounded up to whole milliseconds, which is what the server's expiry counts in."""
    wait_us = -(-result.wait_us // MILLISECOND) * MILLISECOND
    others = tuple(_in_milliseconds(other) if other.wait_us else other for other in result.others)
    return result._replace(wait_us=wait_us, reset_us=wait_us, others=others)


@lru_cache(maxsize=4096)
def _key_parts(algorithm: Algorithm, rates: tuple[Rate, ...]) -> list[tuple[str, str]]:
    """The keys of some rates, each as the text before the digest and the text after it."""
    digest = "\0"
    keys = [key for rate in rates for key in algorithm.redis.keys(rate.key(digest, algorithm.name))]
    return [(start, end) for start, _, end in (key.partition(digest) for key in keys)]


@lru_cache(maxsize=4096)
def _arguments(rates: tuple[Rate, ...], costs: tuple[int, ...]) -> list[bytes]:
    """Cost, limit and window in milliseconds of each rate, encoded for the wire; of a calendar window its end."""
    values: list[bytes] = []
    for rate, cost in zip(rates, costs, strict=True):
        window_ms = (rate.window_us if not rate.ends_at_us else -rate.ends_at_us) // MILLISECOND
        values += b"%d" % cost, b"%d" % rate.limit, b"%d" % window_ms
    return values
