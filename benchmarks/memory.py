"""What is held in memory for each key, each idle client and each open stream, in bytes."""

from __future__ import annotations

import gc
import tempfile
import tracemalloc
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import httpx
import httpx2
import redis

import flexmw
from benchmarks.idempotency import protected
from benchmarks.keyed import TRAFFIC, Host, close, run_batch
from benchmarks.open_streams import bytes_of_a_stream
from benchmarks.report import Report, Table
from flexmw.kit.clock import SYSTEM
from flexmw.kit.store_url import parse
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.ratelimit.core import SECOND, Check
from flexmw.ratelimit.rates import parse_rates
from flexmw.ratelimit.stores.memory import MemoryStore
from flexmw.ratelimit.stores.redis import RedisStore

__all__ = ["KEYS", "digests", "keyed_posts_on_redis", "limiter_bytes_on_redis", "measure_memory"]

KEYS: Final = 3_000
RATES: Final = ("10/day", "100/month")
"""Long windows: the key of gcra lives no longer than it takes to get back what was spent."""


def digests(number: int) -> list[str]:
    """The hashes of so many callers, as a store knows them."""
    return [blake2b(b"%d" % each, digest_size=16).hexdigest() for each in range(number)]


def traced(make: Callable[[int], object], number: int) -> float:
    """Bytes that each of a number of things holds."""
    kept = [make(each) for each in range(20)]
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept += [make(each) for each in range(20, 20 + number)]
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return held / number


def _limiter_on_memory(strategy: str, rates: Any) -> float:
    store, names = MemoryStore(ALGORITHMS[strategy], SYSTEM), digests(KEYS + 20)
    now = SYSTEM.monotonic()
    return traced(lambda each: store.hit(names[each], rates, 1, int(now * SECOND)), KEYS)


async def limiter_bytes_on_redis(url: str, strategy: str, rates: Any, number: int = KEYS) -> float:
    """Bytes of a redis for each caller of a limiter."""
    store = RedisStore(ALGORITHMS[strategy], parse(url, "storage"))
    with redis.Redis.from_url(url) as client:
        client.flushall()
        await store.decide(Check("warm", rates, (1,) * len(rates)))
        before = client.info("memory")["used_memory"]
        for name in digests(number):
            await store.decide(Check(name, rates, (1,) * len(rates)))
        used = client.info("memory")["used_memory"] - before
        client.flushall()
    await store.close()
    return used / number


async def _keyed_posts(storage: str, size: Callable[[], float], number: int = 500) -> float:
    """Bytes for each keyed POST whose response is stored."""
    host = Host()
    app = protected(host.app, storage)
    await run_batch(host, app, TRAFFIC["first"], 20, 1)
    gc.collect()
    tracemalloc.start()
    before = size()
    await run_batch(host, app, TRAFFIC["first"], number, 1)
    gc.collect()
    held = size() - before
    tracemalloc.stop()
    await close(app)
    return held / number


async def keyed_posts_on_redis(url: str) -> float:
    """Bytes of a redis for each keyed POST whose response is stored."""
    with redis.Redis.from_url(url) as client:
        return await _keyed_posts(url, lambda: client.info("memory")["used_memory"])


def _client(library: Any, *components: Any) -> Callable[[int], object]:
    context = library.create_ssl_context()

    def make(number: int) -> object:
        client = library.Client(verify=context, trust_env=False)
        return flexmw.wrap_client(client, *components) if components else client

    return make


async def measure_memory(url: str) -> Report:
    """The table of what is held.

    :param url: a redis of one's own: it is emptied.
    """
    rows: list[list[str]] = []
    report = Report()

    def add(name: str, where: str, value: float) -> None:
        rows.append([name, where, f"{value:,.0f}"])
        report.figures[f"memory.{name}.{where}".replace(" ", "_")] = value

    for number, shown in ((1, "one window"), (2, "two windows")):
        rates = parse_rates(RATES[:number])
        for strategy in ALGORITHMS:
            add(f"RateLimit, {strategy}, {shown}", "memory", _limiter_on_memory(strategy, rates))
            if number == 1:
                add(f"RateLimit, {strategy}, {shown}", "redis", await limiter_bytes_on_redis(url, strategy, rates))
    with redis.Redis.from_url(url) as client, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "keys.db"
        sizes: dict[str, tuple[str, Callable[[], float]]] = {
            "memory": ("memory://", lambda: tracemalloc.get_traced_memory()[0]),
            "redis": (url, lambda: client.info("memory")["used_memory"]),
            "sqlite": (f"sqlite:///{path}", lambda: path.stat().st_size),
        }
        for where, (storage, size) in sizes.items():
            add("Idempotency, a stored response of 60 bytes", where, await _keyed_posts(storage, size))
    for library in (httpx, httpx2):
        plain = traced(_client(library), 100)
        add(f"an idle {library.__name__}.Client", "process", plain)
        add(
            f"the same {library.__name__}.Client with Tagging and Retry, beyond it",
            "process",
            traced(_client(library, flexmw.Tagging(), flexmw.Retry()), 100) - plain,
        )
        add(
            f"the same {library.__name__}.Client with Tagging, Retry and Pace, beyond it",
            "process",
            traced(_client(library, flexmw.Tagging(), flexmw.Retry(), flexmw.Pace()), 100) - plain,
        )
    for name, size_of in (await bytes_of_a_stream(300)).items():
        add(f"an open stream, {name}, beyond the chunks that are kept", "process", size_of)
    report.tables.append(Table("scale", "bytes held", ["what", "where", "bytes"], rows))
    return report
