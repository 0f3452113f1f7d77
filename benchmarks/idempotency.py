"""``python -m benchmarks.idempotency``: what one protected POST costs, on memory, sqlite and redis.

    python -m benchmarks.idempotency                          # some minutes; peers of the bench group if installed
    python -m benchmarks.idempotency --quick --store redis    # some seconds
    python -m benchmarks.idempotency --at 64 --rounds 31
    python -m benchmarks.idempotency --count                  # commands, commits, tasks and threads alone

Around a Starlette route that reads the body and responds with JSON, without sockets to a client: the first execution of
a key, its replay, a refused duplicate, the first attempt and the retry of an SDK that sends no key, and a request
without a key; with 1, 64 and 512 of them at once. Beside them: the least that the store
allows (:mod:`benchmarks.floors`), an empty ``BaseHTTPMiddleware``, and the public middlewares of
:mod:`benchmarks.idempotency_peers`.

Contenders take turns in short rounds, in a new order each. A figure is CPU time of this process, threads included; a
ratio is the median of the rounds' ratios. The time of redis itself is not counted. The commands, the durable commits,
the tasks and the threads of a request are counted in a run of their own, and depend on no load.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import flexmw
from benchmarks.counters import counted_commits, counting_requests
from benchmarks.envelope import base_http
from benchmarks.floors import dict_floor, redis_floor, sqlite_floor
from benchmarks.idempotency_peers import LEFT_OUT, peers
from benchmarks.keyed import TRAFFIC, Host, close, run_batch
from benchmarks.peers import redis_server
from benchmarks.report import Report, Table
from benchmarks.streams import CHUNKS, serving
from benchmarks.streams import app as stream_app

__all__ = ["STORES", "component", "main", "measure", "protected", "url_of"]

STORES: Final = ("memory", "sqlite", "redis")
AT_ONCE: Final = (1, 64, 512)
ROUNDS: Final = 11
REQUESTS: Final = {"memory": 128, "redis": 128, "sqlite": 64}
"""Requests of one contender in one round, at least."""

_COUNTED: Final = 64
PEER_TRAFFIC: Final = ("first", "replay")
SDK: Final = ("sdk first", "sdk retry")
BARE, BASE, FLEXMW = "no middleware", "an empty BaseHTTPMiddleware", "flexmw"


class Contender(NamedTuple):
    """One line of a table.

    :param name: what is measured.
    :param traffic: the kind of traffic, a key of ``TRAFFIC``.
    :param run: makes so many requests, so many at once; returns CPU and wall seconds.
    """

    name: str
    traffic: str
    run: Callable[[int, int], Awaitable[tuple[float, float]]]


def url_of(store: str, folder: Path, redis: str) -> str:
    """The storage URL of a store."""
    return {"memory": "memory://", "sqlite": f"sqlite:///{folder / 'keys.db'}", "redis": redis}[store]


def component(storage: str, **options: Any) -> flexmw.Idempotency:
    """An Idempotency with room for all keys of a run."""
    bounds = {} if storage.startswith("redis") else {"capacity": 10**7, "capacity_bytes": 2**40}
    return flexmw.Idempotency(storage=storage, store_timeout=30.0, **bounds, **options)


def protected(app: Any, storage: str, **options: Any) -> Any:
    """An app behind Idempotency alone, with room for all keys of a run."""
    return flexmw.wrap_app(app, component(storage, **options))


@contextmanager
def timed() -> Generator[list[float]]:
    spent: list[float] = []
    began, wall = time.process_time(), time.perf_counter()
    yield spent
    spent += [time.process_time() - began, time.perf_counter() - wall]


def around(name: str, traffic: str, host: Host, app: Any) -> Contender:
    async def run(times: int, at_once: int) -> tuple[float, float]:
        cpu, wall = await run_batch(host, app, TRAFFIC[traffic], times, at_once, timed)
        return cpu, wall

    return Contender(name, traffic, run)


def bare_driver(traffic: str, step: Callable[[], Awaitable[None]]) -> Contender:
    async def run(times: int, at_once: int) -> tuple[float, float]:
        turns = iter(range(times))

        async def work() -> None:
            for _ in turns:
                await step()

        with timed() as spent:
            await asyncio.gather(*(work() for _ in range(at_once)))
        return spent[0], spent[1]

    return Contender("the bare driver", traffic, run)


async def contenders(
    store: str, folder: Path, redis: str, stack: AsyncExitStack, *, with_peers: bool
) -> list[Contender]:
    """What is measured on one store."""

    def hosted(wrap: Callable[[Any], Any]) -> tuple[Host, Any]:
        host = Host()
        app = wrap(host.app)
        return host, app

    url = url_of(store, folder, redis)
    some = [around(name, "unkeyed", *hosted(wrap)) for name, wrap in ((BARE, lambda app: app), (BASE, base_http))]
    for traffics, options in ((("unkeyed", "first", "replay", "duplicate"), {}), (SDK, {"sdk_retries": True})):
        host, app = hosted(partial(protected, storage=url, **options))
        stack.push_async_callback(close, app)
        some += [around(FLEXMW, traffic, host, app) for traffic in traffics]
    if store == "memory":
        host, app = hosted(dict_floor)
        some += [around("a dict by hand", traffic, host, app) for traffic in ("first", "replay", "duplicate")]
    else:
        steps, close_driver = redis_floor(redis) if store == "redis" else sqlite_floor(folder / "floor.db")
        stack.push_async_callback(close_driver)
        some += [bare_driver(traffic, step) for traffic, step in steps.items()]
    if with_peers:
        for name, wrap in peers(store, redis if store == "redis" else folder, stack).items():
            host, app = hosted(wrap)
            some += [around(name, traffic, host, app) for traffic in PEER_TRAFFIC]
    return some


async def _with_lifespan(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "lifespan":
        await stream_app(scope, receive, send)
        return
    for step in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{step}.complete"})


class Spent(NamedTuple):
    """CPU and wall seconds of a request, one pair for each round."""

    cpu: list[float]
    wall: list[float]


async def rounds_of(some: Sequence[Contender], rounds: int, times: int, at_once: int) -> dict[tuple[str, str], Spent]:
    spent = {(each.name, each.traffic): Spent([], []) for each in some}
    broken: set[tuple[str, str]] = set()
    for turn in range(-1, rounds):
        for each in random.sample(some, len(some)):
            key = (each.name, each.traffic)
            if key in broken:
                continue
            try:
                cpu, wall = await each.run(times, at_once)
            except Exception as error:
                if each.name in (FLEXMW, BARE, BASE):
                    raise
                print(
                    f"{each.name}, {each.traffic}, {at_once} at once: {type(error).__name__}: {error}", file=sys.stderr
                )
                broken.add(key)
                del spent[key]
                continue
            if turn >= 0:  # the first round opens connections and warms up
                spent[key].cpu.append(cpu / times)
                spent[key].wall.append(wall / times)
        if turn < 0:
            gc.collect()
            gc.freeze()
    gc.unfreeze()
    return spent


def table_of(store: str, at_once: int, spent: dict[tuple[str, str], Spent], report: Report) -> None:
    bare, base = spent[BARE, "unkeyed"].cpu, spent[BASE, "unkeyed"].cpu
    keyed, driver = spent[FLEXMW, "first"].cpu, spent.get(("the bare driver", "first"))
    rows = []
    for (name, traffic), each in spent.items():
        middle = statistics.median
        figure = f"idempotency.{store}.{at_once}.{name}.{traffic}".replace(" ", "_")
        added = middle((x - b) / (h - b) for x, b, h in zip(each.cpu, bare, base, strict=True))
        report.figures[f"{figure}.us"] = middle(each.cpu) * 1e6
        report.figures[f"{figure}.keyed"] = middle(x / k for x, k in zip(each.cpu, keyed, strict=True))
        cells = [name, TRAFFIC[traffic].title, f"{middle(each.cpu) * 1e6:.0f}"]
        if name == "the bare driver":
            cells.append("")
        else:
            report.figures[f"{figure}.added"] = added
            cells.append(f"{added:.2f}")
        if driver is not None:
            ratio = middle(d / x for d, x in zip(driver.cpu, each.cpu, strict=True))
            wall = middle(d / x for d, x in zip(driver.wall, each.wall, strict=True))
            report.figures[f"{figure}.driver"], report.figures[f"{figure}.driver_wall"] = ratio, wall
            cells += [f"{ratio:.2f}", f"{wall:.2f}"]
        cells.append(f"{1 / middle(each.wall):,.0f}")
        rows.append(cells)
    columns = ["around the app", "request", "CPU, us", "added / BaseHTTPMiddleware's"]
    if driver is not None:
        columns += ["per CPU second / the bare driver's", "per second / the bare driver's"]
    report.tables.append(Table("idempotency", f"{store}, {at_once} at once", [*columns, "per second"], rows))


async def measure(store: str, folder: Path, redis: str, *, at: Sequence[int], rounds: int, with_peers: bool) -> Report:
    """The tables of one store."""
    report = Report()
    async with AsyncExitStack() as stack:
        some = await contenders(store, folder, redis, stack, with_peers=with_peers)
        for at_once in at:
            times = max(REQUESTS[store], at_once)
            table_of(store, at_once, await rounds_of(some, rounds, times, at_once), report)
    await streams(store, url_of(store, folder, redis), rounds, report)
    return report


async def streams(store: str, url: str, rounds: int, report: Report) -> None:
    """CPU of a chunk of a keyed stream, beside the same stream without a middleware.

    The bare stream is in the table: the same code takes twice the CPU time while other processes use the machine.
    """
    served = protected(_with_lifespan, url, max_body=4 * 1024 * 1024)
    plain, keyed = serving(stream_app, key=True), serving(served, key=True)
    bare, added = list[float](), list[float]()
    for turn in range(-1, rounds):
        seconds = []
        for run in (plain, keyed):
            gc.collect()
            began = time.process_time()
            await run()
            seconds.append(time.process_time() - began)
        if turn >= 0:
            bare.append(seconds[0] / CHUNKS * 1e6)
            added.append((seconds[1] - seconds[0]) / CHUNKS * 1e6)
    report.figures[f"idempotency.{store}.chunk_us"] = statistics.median(added)
    rows = [
        ["a chunk of the bare stream", f"{statistics.median(bare):.2f}", "1.0"],
        [
            "added to a chunk of a keyed stream",
            f"{statistics.median(added):.2f}",
            f"{statistics.median(mine / base for mine, base in zip(added, bare, strict=True)):.1f}",
        ],
    ]
    columns = ["CPU", "us", "/ the bare stream's"]
    report.tables.append(Table("idempotency", f"{store}, a stream of {CHUNKS} chunks", columns, rows))
    await close(served)


async def counts(store: str, folder: Path, redis: str, *, with_peers: bool) -> Report:
    """What a request of each kind asks of the store and of the event loop."""
    rows, report = [], Report()
    with counted_commits() if store == "sqlite" else nullcontext() as commits:
        async with AsyncExitStack() as stack:
            some: list[tuple[str, str, Host, Any]] = []
            url = url_of(store, folder, redis)
            for traffics, options in ((("unkeyed", "first", "replay", "duplicate"), {}), (SDK, {"sdk_retries": True})):
                host = Host()
                app = protected(host.app, url, **options)
                stack.push_async_callback(close, app)
                some += [(FLEXMW, traffic, host, app) for traffic in traffics]
            for name, wrap in peers(store, redis if store == "redis" else folder, stack).items() if with_peers else ():
                host = Host()
                app = wrap(host.app)
                some += [(name, traffic, host, app) for traffic in PEER_TRAFFIC]
            for name, traffic, host, app in some:
                row = [name, TRAFFIC[traffic].title]
                for at_once in (1, _COUNTED):
                    await run_batch(host, app, TRAFFIC[traffic], _COUNTED, at_once)
                    counting = partial(counting_requests, redis if store == "redis" else None, commits)
                    found = await run_batch(host, app, TRAFFIC[traffic], _COUNTED, at_once, counting)
                    found.tasks -= at_once if at_once > 1 else 0  # those that make the requests
                    figure = f"idempotency.{store}.{at_once}.{name}.{traffic}".replace(" ", "_")
                    for what in ("commands", "commits", "tasks", "threads"):
                        value = getattr(found, what)
                        if value is not None:
                            report.figures[f"{figure}.{what}"] = value / _COUNTED
                            row.append(f"{value / _COUNTED:.2f}".rstrip("0").rstrip("."))
                rows.append(row)
    asked = {"redis": ["commands"], "sqlite": ["commits"], "memory": []}[store]
    columns = [f"{what}, {at_once} at once" for at_once in (1, _COUNTED) for what in (*asked, "tasks", "threads")]
    note = "commits: durable, each syncs the file. threads: results that came from another thread."
    report.tables.append(
        Table("idempotency", f"{store}: counted for each request", ["around the app", "request", *columns], rows, note)
    )
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--store", nargs="*", choices=STORES, default=STORES)
    parser.add_argument("--at", nargs="*", type=int, default=AT_ONCE, help="requests at once")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds of each contender")
    parser.add_argument("--quick", action="store_true", help="5 rounds, 64 at once, no peers")
    parser.add_argument("--count", action="store_true", help="the counts alone")
    parser.add_argument("--no-peers", action="store_true", help="without other middlewares")
    parser.add_argument("--folder", help="the folder of the sqlite files, on the disk that is to be measured")
    parser.add_argument("--json", help="a file for the report")
    chosen = parser.parse_args()
    at, rounds = ([64], 5) if chosen.quick else (chosen.at, chosen.rounds)
    with_peers = not (chosen.quick or chosen.no_peers)
    report = Report()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=chosen.folder)))
        redis = stack.enter_context(redis_server()) if "redis" in chosen.store else ""
        for store in chosen.store:
            parts = [partial(counts, store, folder, redis, with_peers=with_peers)]
            if not chosen.count:
                parts.insert(0, partial(measure, store, folder, redis, at=at, rounds=rounds, with_peers=with_peers))
            for part in parts:
                found = asyncio.run(part())
                found.show()
                report.add(found)
    if with_peers:
        print("left out: " + "; ".join(f"{name} ({reason})" for name, reason in LEFT_OUT.items()))
    report.write(chosen.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
