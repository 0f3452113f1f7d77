"""``python -m benchmarks.scale``: what costs grow with, drawn as curves, and what is held in memory.

    python -m benchmarks.scale             # two minutes: up to a million keys, 10,000 open streams, 500 plugins
    python -m benchmarks.scale --quick     # half a minute: up to 10,000 keys, 1,000 open streams
    python -m benchmarks.scale --full      # up to ten million keys: some minutes, 4 GB of memory

Times are CPU time of this process; the time of redis itself is not counted. Each curve is one run, whose points are
medians or the cheapest of several passes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import redis

import flexmw
from benchmarks.floors import counting_floor
from benchmarks.memory import digests, measure_memory
from benchmarks.open_streams import us_of_a_chunk
from benchmarks.peers import redis_server, request, starlette_app
from benchmarks.report import Curve, Curves, Report
from flexmw.kit.clock import SYSTEM
from flexmw.kit.store_url import parse
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.ratelimit.core import SECOND, Check
from flexmw.ratelimit.rates import parse_rates
from flexmw.ratelimit.stores.memory import MemoryStore
from flexmw.ratelimit.stores.redis import RedisStore

__all__ = ["main", "measure"]

Points = list[tuple[float, float]]

STRATEGY: Final = "sliding-window-counter"
WINDOWS: Final = ("100000000/second", "100000000/minute", "100000000/hour", "100000000/day")
SAMPLE: Final = 5_000
"""Decisions of one pass."""

ON_REDIS: Final = 500
FILL: Final = """
for each = ARGV[1], ARGV[2] do
  redis.call('SET', 'filled:' .. each, '0123456789', 'EX', 86400)
end
"""
PLUGINS: Final = (0, 50, 100, 200, 350, 500)
COMPONENTS: Final = (0, 1, 2, 4, 8, 16, 32)


def _least(passes: int, run: Callable[[], float]) -> float:
    return min(run() for _ in range(passes))


def _in_turn(decide: dict[int, Callable[[], float]]) -> Points:
    """The least of nine passes for each number of keys. The numbers have their passes in turn, so that a machine that
    becomes slower meanwhile slows all of them."""
    passes = [{number: once() for number, once in decide.items()} for _ in range(9)]
    return Points((number, min(each[number] for each in passes)) for number in decide)


def limiter_on_memory(numbers: Sequence[int]) -> Points:
    """Microseconds of a decision on a known key, by the number of keys."""
    rates, names = parse_rates("100000000/minute"), digests(numbers[-1])

    def passes(number: int) -> Callable[[], float]:
        store, sample = MemoryStore(ALGORITHMS[STRATEGY], SYSTEM), _sample(names, number)
        for name in names[:number]:
            store.hit(name, rates, 1, int(time.monotonic() * SECOND))

        def decide() -> float:
            began = time.process_time()
            for name in sample:
                store.hit(name, rates, 1, int(time.monotonic() * SECOND))
            return (time.process_time() - began) / len(sample) * 1e6

        return decide

    return _in_turn({number: passes(number) for number in numbers})


def dict_of_windows(numbers: Sequence[int]) -> Points:
    """Microseconds of the memory of a decision alone, by the number of keys: what a dict by hand costs."""
    names = digests(numbers[-1])

    def passes(number: int) -> Callable[[], float]:
        count, sample = counting_floor(names[:number]), _sample(names, number)

        def decide() -> float:
            began = time.process_time()
            for name in sample:
                count(name)
            return (time.process_time() - began) / len(sample) * 1e6

        return decide

    return _in_turn({number: passes(number) for number in numbers})


def _sample(names: list[str], number: int) -> list[str]:
    """So many names as a pass has decisions, spread over the first ``number`` names."""
    return (names[: number : -(-number // SAMPLE)] * -(-SAMPLE // number))[:SAMPLE]


async def limiter_on_redis(url: str, numbers: Sequence[int]) -> Points:
    """The same on a redis that holds so many keys, for one decision after the other. CPU of this process."""
    store, rates = RedisStore(ALGORITHMS[STRATEGY], parse(url, "storage")), parse_rates("100000000/minute")
    points, filled = Points(), 0
    with redis.Redis.from_url(url, socket_timeout=120) as client:
        client.flushall()
        for number in numbers:
            for first in range(filled, number, 100_000):
                client.eval(FILL, 0, first + 1, min(number, first + 100_000))
            filled = number

            async def decide() -> None:
                for each in range(ON_REDIS):
                    await store.decide(Check(f"caller {each % min(number, ON_REDIS)}", rates, (1,)))  # noqa: B023

            points.append((number, await _spent(decide, ON_REDIS)))
        client.flushall()
    await store.close()
    return points


async def _spent(run: Callable[[], Awaitable[None]], times: int) -> float:
    """CPU microseconds of one of so many steps: the median of five passes, after one that warms up."""
    found = []
    for turn in range(6):
        began = time.process_time()
        await run()
        if turn:
            found.append((time.process_time() - began) / times * 1e6)
    return statistics.median(found)


async def windows(url: str) -> dict[str, Points]:
    """Microseconds of a decision, by the number of windows."""
    points: dict[str, Points] = {"on memory": [], "on redis": []}
    for number in range(1, len(WINDOWS) + 1):
        rates = parse_rates(list(WINDOWS[:number]))
        memory = MemoryStore(ALGORITHMS[STRATEGY], SYSTEM)

        def decide() -> float:
            began = time.process_time()
            for _ in range(SAMPLE):
                memory.hit("caller", rates, 1, int(time.monotonic() * SECOND))  # noqa: B023
            return (time.process_time() - began) / SAMPLE * 1e6

        points["on memory"].append((number, _least(5, decide)))
        store = RedisStore(ALGORITHMS[STRATEGY], parse(url, "storage"))
        check = Check("caller", rates, (1,) * number)

        async def ask() -> None:
            for _ in range(ON_REDIS):
                await store.decide(check)  # noqa: B023

        points["on redis"].append((number, await _spent(ask, ON_REDIS)))
        await store.close()
    return points


def _component(number: int) -> Any:
    """A component that adds a header, like one that a plugin author writes."""

    @dataclass(frozen=True, kw_only=True)
    class Mark:
        name: ClassVar[str] = f"acme.mark{number}"
        api: ClassVar[int] = 1
        order: ClassVar[flexmw.Order] = flexmw.Order()

        def asgi(self, app: Any) -> Any:
            mark = (b"x-mark-%d" % number, b"1")

            async def marked(scope: Any, receive: Any, send: Any) -> None:
                async def marking(message: Any) -> None:
                    if message["type"] == "http.response.start":
                        message["headers"].append(mark)
                    await send(message)

                await app(scope, receive, marking)

            return marked

    return Mark()


async def components() -> Points:
    """Microseconds that components add to a request, by their number."""
    bare = starlette_app()
    steps = {number: request(flexmw.wrap_app(bare, *map(_component, range(number)))) if number else request(bare)
             for number in COMPONENTS}  # fmt: skip
    spent: dict[int, list[float]] = {number: [] for number in COMPONENTS}
    for _ in range(15):
        for number, step in steps.items():
            began = time.process_time()
            for _ in range(200):
                await step()
            spent[number].append((time.process_time() - began) / 200 * 1e6)
    base = spent[0]
    return [
        (number, statistics.median(x - b for x, b in zip(values, base, strict=True)))
        for number, values in spent.items()
        if number
    ]


_SCAN: Final = """
import time
import flexmw
began = time.process_time()
flexmw.installed()
first = time.process_time() - began
began = time.process_time()
flexmw.wrap_app(lambda scope, receive, send: None)
print(first, time.process_time() - began)
"""


def plugins(rounds: int) -> dict[str, Points]:
    """CPU milliseconds of the first ``flexmw.installed()`` and of ``wrap_app`` after it, by the number of plugins that
    are installed beside flexmw."""
    points: dict[str, Points] = {"flexmw.installed(), first time": [], "wrap_app after it, with its imports": []}
    for number in PLUGINS:
        with tempfile.TemporaryDirectory() as folder:
            for each in range(number):
                info = Path(folder, f"acme_plugin{each}-1.0.dist-info")
                info.mkdir()
                (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: acme-plugin{each}\nVersion: 1.0\n")
                (info / "entry_points.txt").write_text(f"[flexmw.components]\nacme.p{each} = acme_plugin{each}:Mark\n")
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join((folder, str(Path(__file__).parents[1])))}
            found = []
            for _ in range(rounds):
                done = subprocess.run(
                    [sys.executable, "-c", _SCAN], capture_output=True, text=True, check=True, env=environment
                )
                found.append([float(value) * 1e3 for value in done.stdout.split()])
            for name, values in zip(points, zip(*found, strict=True), strict=True):
                points[name].append((number, min(values)))
    return points


def _at_a_million(points: Points) -> float:
    """The value at a million keys, else at the most keys of the curve."""
    return dict(points).get(1_000_000, points[-1][1])


async def measure(url: str, *, most_keys: int, most_streams: int) -> Report:
    """All curves and the table of memory.

    :param url: a redis of one's own: it is emptied.
    """
    numbers = [10**power for power in range(8) if 10**power <= most_keys]
    open_streams = [10**power for power in range(5) if 10**power <= most_streams]

    def drawn(title: str, x: str, y: str, points: dict[str, Points]) -> None:
        report.curves.append(Curves("scale", title, x, y, [Curve(name, line) for name, line in points.items()]))

    report = Report()
    memory = limiter_on_memory(numbers)
    windows_alone = dict_of_windows(numbers)
    one, many, added = memory[0][1], _at_a_million(memory), _at_a_million(windows_alone) - windows_alone[0][1]
    report.figures["scale.memory_keys"] = many / one
    report.figures["scale.memory_keys_floor"] = (one + added) / one
    lines = {"on memory": memory, "a dict by hand": windows_alone}
    drawn("A limiter's decision by the number of keys", "keys", "us", lines)
    drawn(
        "A limiter's decision on redis by the number of keys",
        "keys",
        "us",
        {"on redis": await limiter_on_redis(url, [number for number in numbers if number >= 1_000])},
    )
    both = await windows(url)
    drawn("A limiter's decision by the number of windows", "windows", "us", {"on memory": both["on memory"]})
    drawn("A limiter's decision on redis by the number of windows", "windows", "us", {"on redis": both["on redis"]})
    drawn("Components that add a header", "components", "us added", {"added to a request": await components()})
    drawn("A chunk of one of many open streams", "open streams", "us", await us_of_a_chunk(open_streams, 5))
    drawn("Plugins installed", "plugins", "ms", plugins(3))
    report.add(await measure_memory(url))
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="up to 10,000 keys and 1,000 open streams")
    parser.add_argument("--full", action="store_true", help="up to ten million keys")
    parser.add_argument("--json", help="a file for the report")
    chosen = parser.parse_args()
    most_keys = 10_000 if chosen.quick else 10_000_000 if chosen.full else 1_000_000
    with redis_server() as at:
        report = asyncio.run(measure(at, most_keys=most_keys, most_streams=1_000 if chosen.quick else 10_000))
    report.show()
    report.write(chosen.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
