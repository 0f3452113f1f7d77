"""``python -m benchmarks.fleet``: a fleet of a thousand gateways and a hundred million keys, as a calculation.

    python -m benchmarks.fleet
    python -m benchmarks.fleet --gateways 50 --keys 1e6 --rate 2e4

The bytes of a key, the bytes of a command on the wire and the CPU of a command are measured against a real redis in the
run; the rest is arithmetic. Requests are spread over keys by Zipf's law, and each key has the smallest of the limits
60, 600, 6,000 ... a minute that is at least twice its mean rate.

**Token leases**: a gateway takes a block of a key's limit from redis and decides on its own until the block is spent.
Blocks are as large as they can be while all gateways that serve a key together hold at most ``share`` of its limit.
This share is also the bound of what a lease can do wrong: a key can be refused while up to ``share`` of its limit lies
unspent in other gateways, and tokens that are carried over the end of a window admit up to ``share`` too much.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

import redis

from benchmarks.memory import digests, keyed_posts_on_redis, limiter_bytes_on_redis
from benchmarks.peers import redis_server
from benchmarks.report import Report, Table
from flexmw.kit.store_url import parse
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.ratelimit.core import Check
from flexmw.ratelimit.rates import parse_rates
from flexmw.ratelimit.stores.redis import RedisStore

__all__ = ["Demand", "Fleet", "Inputs", "Load", "active_keys", "demands", "load_of", "main", "measure", "measured"]

WINDOW: Final = 60.0
"""Seconds of the window of all limits."""

LIVES: Final = 2
"""Windows that a key of a sliding window lives in redis."""

SMALLEST: Final = 60
STRATEGY: Final = "sliding-window-counter"
COMMANDS: Final = 3_000
DAY: Final = 86_400.0
_BUCKETS: Final = 12
"""Classes of keys for each power of ten."""

_EXACT: Final = 50.0
"""Requests of a gateway in a window, above which the number of blocks is taken from the mean."""


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """The scenario.

    :param gateways: processes that decide.
    :param keys: keys that exist.
    :param rate: requests a second, over all gateways.
    :param exponent: the exponent of Zipf's law.
    :param share: the part of a limit that all leases of a key hold at most.
    """

    gateways: int = 1_000
    keys: float = 1e8
    rate: float = 1e6
    exponent: float = 1.0
    share: float = 0.1


class Demand(NamedTuple):
    """Keys that are asked for alike.

    :param keys: their number.
    :param rate: requests a second of each.
    :param limit: requests that each may make in a window.
    """

    keys: float
    rate: float
    limit: float


class Inputs(NamedTuple):
    """What is measured against a real redis.

    :param key_bytes: memory of a key.
    :param command_bytes: bytes of a command and its reply on the wire.
    :param redis_us: CPU of redis for a command, in microseconds.
    :param stored_bytes: memory of a stored response of a keyed POST.
    """

    key_bytes: float
    command_bytes: float
    redis_us: float
    stored_bytes: float


class Load(NamedTuple):
    """What the fleet asks of redis.

    :param commands: commands a second.
    :param local: the share of the decisions that need no command.
    :param leased: the share of the keys' traffic whose limit is large enough for blocks of more than one.
    """

    commands: float
    local: float
    leased: float


def demands(fleet: Fleet) -> Iterator[Demand]:
    """The keys in classes, from the one that is asked for most to those that are asked for least."""
    edges = [1.0]
    while edges[-1] < fleet.keys:
        edges.append(min(fleet.keys, max(edges[-1] + 1, edges[-1] * 10 ** (1 / _BUCKETS))))
    weights = [_weight(low, high, fleet.exponent) for low, high in pairwise(edges)]
    whole = sum(weights)
    for (low, high), weight in zip(pairwise(edges), weights, strict=True):
        rate = fleet.rate * weight / whole / (high - low)
        limit = float(SMALLEST)
        while limit < 2 * rate * WINDOW:
            limit *= 10
        yield Demand(high - low, rate, limit)


def _weight(low: float, high: float, exponent: float) -> float:
    """The sum of ``rank ** -exponent`` between two ranks, by the integral."""
    if exponent == 1.0:
        return math.log(high / low)
    return float((high ** (1 - exponent) - low ** (1 - exponent)) / (1 - exponent))


def load_of(fleet: Fleet, *, serving: int, leases: bool) -> Load:
    """The load on redis.

    :param serving: gateways that serve one key: all of them, or fewer where requests are routed by key.
    :param leases: whether blocks are taken.
    """
    commands = leased = 0.0
    for demand in demands(fleet):
        block = max(1, int(fleet.share * demand.limit / serving)) if leases else 1
        mean = demand.rate * WINDOW / serving
        commands += demand.keys * serving * _blocks(mean, block) / WINDOW
        leased += demand.keys * demand.rate * (block > 1)
    return Load(commands, 1 - commands / fleet.rate, leased / fleet.rate)


def _blocks(mean: float, block: int) -> float:
    """Blocks that a gateway takes in a window for a Poisson number of requests: the mean of ``ceil(N / block)``."""
    if block == 1:
        return mean
    if mean > _EXACT:
        return max(mean / block + 0.5 * (1 - 1 / block), 1.0)
    total, term, below = 0.0, math.exp(-mean), 0.0
    for number in range(int(mean + 12 * math.sqrt(mean) + 20)):
        if number % block == 0:
            total += 1 - min(1.0, below + term)  # P(N > number)
        below += term
        term *= mean / (number + 1)
    return total


def active_keys(fleet: Fleet, seconds: float) -> float:
    """Keys that are asked for at least once in so many seconds."""
    return sum(demand.keys * -math.expm1(-demand.rate * seconds) for demand in demands(fleet))


async def measured(url: str) -> Inputs:
    """Measure a key and a command.

    :param url: a redis of one's own: it is emptied.
    """
    rates = parse_rates("600/minute")
    key_bytes = await limiter_bytes_on_redis(url, STRATEGY, rates)
    store, names = RedisStore(ALGORITHMS[STRATEGY], parse(url, "storage")), digests(50)
    with redis.Redis.from_url(url) as client:
        await store.decide(Check("warm", rates, (1,)))
        before = client.info()
        for _ in range(COMMANDS // len(names)):
            await asyncio.gather(*(store.decide(Check(name, rates, (1,))) for name in names))
        after = client.info()
    await store.close()
    wire = sum(after[name] - before[name] for name in ("total_net_input_bytes", "total_net_output_bytes"))
    spent = sum(after[name] - before[name] for name in ("used_cpu_user", "used_cpu_sys"))
    return Inputs(key_bytes, wire / COMMANDS, spent / COMMANDS * 1e6, await keyed_posts_on_redis(url))


def report_of(fleet: Fleet, inputs: Inputs) -> Report:
    """The tables, and the figure that decides whether token leases pay."""
    report, rows = Report(), []
    for serving, routed in (
        (fleet.gateways, "to any gateway"),
        (min(10, fleet.gateways), "to one of 10 by key"),
        (1, "to one gateway by key"),
    ):
        for leases in (False, True):
            load = load_of(fleet, serving=serving, leases=leases)
            rows.append(
                [
                    routed,
                    f"at most {fleet.share:.0%} of a limit" if leases else "none",
                    f"{load.commands:,.0f}",
                    f"{load.commands * inputs.redis_us / 1e6:.1f}",
                    f"{load.commands * inputs.command_bytes / 1e6:,.0f}",
                    f"{load.local:.0%}",
                    f"{load.leased:.0%}",
                ]
            )
            if leases:
                report.figures[f"fleet.saved.{serving}"] = load.local
    title = f"{fleet.gateways:,} gateways, {fleet.keys:,.0f} keys, {fleet.rate:,.0f} requests a second"
    columns = [
        "requests go",
        "token leases",
        "commands a second",
        "cores of redis",
        "MB a second",
        "decided without a command",
        "traffic with blocks above 1",
    ]
    note = (
        f"measured in this run: {inputs.key_bytes:.0f} bytes a key, {inputs.command_bytes:.0f} bytes a command on the "
        f"wire, {inputs.redis_us:.1f} us of redis a command"
    )
    report.tables.append(Table("fleet", title, columns, rows, note))
    minutes, days = active_keys(fleet, LIVES * WINDOW), active_keys(fleet, LIVES * DAY)
    held = [
        ["limits a minute", f"{minutes:,.0f}", f"{minutes * inputs.key_bytes / 1e9:.1f}"],
        ["limits a minute and a day", f"{minutes + days:,.0f}", f"{(minutes + days) * inputs.key_bytes / 1e9:.1f}"],
        [
            "keyed POSTs, 1,000 a second, kept for a day",
            f"{1_000 * DAY:,.0f}",
            f"{1_000 * DAY * inputs.stored_bytes / 1e9:.1f}",
        ],
    ]
    report.tables.append(Table("fleet", "memory of redis", ["what is kept", "keys at a time", "GB"], held))
    return report


async def measure(url: str, fleet: Fleet) -> Report:
    """Measure and calculate.

    :param url: a redis of one's own: it is emptied.
    """
    return report_of(fleet, await measured(url))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gateways", type=int, default=Fleet.gateways)
    parser.add_argument("--keys", type=float, default=Fleet.keys)
    parser.add_argument("--rate", type=float, default=Fleet.rate, help="requests a second, over all gateways")
    parser.add_argument("--exponent", type=float, default=Fleet.exponent, help="of Zipf's law")
    parser.add_argument("--share", type=float, default=Fleet.share, help="of a limit that all leases hold at most")
    parser.add_argument("--json", help="a file for the report")
    chosen = parser.parse_args()
    options = {name: value for name, value in vars(chosen).items() if name != "json"}
    with redis_server() as at:
        report = asyncio.run(measure(at, Fleet(**options)))
    report.show()
    report.write(chosen.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
