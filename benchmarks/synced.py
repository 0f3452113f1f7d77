"""``python -m benchmarks.synced``: keyed POSTs on a sqlite file whose disk takes a millisecond for each sync.

    python -m benchmarks.synced
    python -m benchmarks.synced --us 4000 --at 1 64 512 --rounds 11

The disks of developers and of CI sync in anything between 20 us and 10 ms, so the sync is made by the program: a small
library, which the C compiler builds in a temporary folder, takes the place of ``fsync`` and ``fdatasync``
in the process that measures. It counts each call, and sleeps instead of syncing, for all sides alike:

- the two durable transactions of :func:`benchmarks.floors.sqlite_floor`, one after the other in one thread;
- the requests through a group commit by hand, and through the same middleware over flexmw's own store
  (:mod:`benchmarks.group_floor`);
- the floor: the requests through a middleware by hand over flexmw's own store and claims
  (:mod:`benchmarks.claims_floor`);
- the requests through ``Idempotency``.

The sides take turns; a ratio is the median of the rounds' ratios of wall time. The CPU time of a side is shown with the
parts of it that the thread of the store and the garbage collector take.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.claims_floor import ClaimsFloor
from benchmarks.floors import sqlite_floor
from benchmarks.group_floor import GroupFloor, StoreFloor
from benchmarks.keyed import TRAFFIC, Host, close, run_batch
from benchmarks.report import Report, Table

__all__ = ["SYNC_US", "Unavailable", "main", "measured"]

SYNC_US: Final = 1000
AT_ONCE: Final = (1, 64)
ROUNDS: Final = 7

_PAIRS: Final = 50
_REQUESTS: Final = {1: 50}
_MANY_REQUESTS: Final = 512

_SIDES: Final = (
    ("two durable transactions", ""),
    ("a group commit by hand", "floor_wall"),
    ("flexmw's store, the rest by hand", "store_wall"),
    ("flexmw's store and claims, the rest by hand", "claims_wall"),
    ("flexmw", "driver_wall"),
)
"""What is compared, and the name of the figure of each."""

_NOTE: Final = """
A sync sleeps for that time, on all sides. The group commit by hand keeps both promises of durability and nothing else.
flexmw's store adds leases, times to live, the bounds of the file, other processes, and an end to each wait. Its claims
add callers, keyed hashes, fingerprints, records, heartbeats, unknown outcomes, the breaker, and work that goes on
without its client: they are the floor of a keyed POST. flexmw adds streams, steps, the retries of SDKs, the errors of
the contract, and the options of routes.
""".strip().replace("\n", " ")

_LIBRARY: Final = r"""
#include <stdlib.h>
#include <time.h>

static long syncs;

static int synced(void) {
    const char *us = getenv("FLEXMW_SYNC_US");
    long nanoseconds = us ? 1000 * atol(us) : 0;
    struct timespec left = {nanoseconds / 1000000000, nanoseconds % 1000000000};
    __atomic_add_fetch(&syncs, 1, __ATOMIC_RELAXED);
    while (nanosleep(&left, &left)) {}
    return 0;
}

int fsync(int file) { (void)file; return synced(); }
int fdatasync(int file) { (void)file; return synced(); }
long flexmw_syncs(void) { return __atomic_load_n(&syncs, __ATOMIC_RELAXED); }
"""


class Unavailable(RuntimeError):
    """The measurement cannot be made on this machine."""


def _built(folder: Path) -> Path:
    """The library, built in ``folder``.

    :raises Unavailable: on another system than Linux, and without a C compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or not sys.platform.startswith("linux"):
        raise Unavailable("a sync of a chosen length needs Linux and a C compiler (cc, gcc or clang) in PATH")
    source, library = folder / "sync.c", folder / "sync.so"
    source.write_text(_LIBRARY)
    done = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(source)], capture_output=True, text=True
    )
    if done.returncode:
        raise Unavailable(f"{compiler} does not build the library of the sync: {done.stderr.strip()}")
    return library


def measured(*, sync_us: int = SYNC_US, at: Sequence[int] = AT_ONCE, rounds: int = ROUNDS) -> Report:
    """Measure in a process of its own.

    The figures are ``idempotency.synced.<at once>.driver_wall`` (requests a second, by pairs of durable transactions a
    second), ``idempotency.synced.<at once>.floor_wall`` (the same of the group commit by hand),
    ``idempotency.synced.<at once>.store_wall`` and ``idempotency.synced.<at once>.claims_wall`` (the same of a
    middleware by hand over the store, and over the store and the claims) and ``idempotency.synced.<at once>.syncs``
    (syncs of a request).

    :param sync_us: microseconds of one sync.
    :param at: requests at once.
    :param rounds: rounds of each side.
    :raises Unavailable: where a sync of a chosen length cannot be made.
    """
    with tempfile.TemporaryDirectory() as folder:
        library, report = _built(Path(folder)), Path(folder) / "report.json"
        options = ["--inside", "--us", str(sync_us), "--rounds", str(rounds), "--json", str(report)]
        subprocess.run(
            [sys.executable, "-m", "benchmarks.synced", *options, "--at", *map(str, at)],
            env={**os.environ, "LD_PRELOAD": str(library), "FLEXMW_SYNC_US": str(sync_us)},
            check=True,
        )
        return Report.of_json(report.read_text())


class _Spent(NamedTuple):
    """What one pair of transactions, or one request, has taken. All but ``syncs`` in seconds.

    :param wall: wall time.
    :param cpu: CPU time of the process.
    :param store: the part of ``cpu`` outside the thread of the event loop.
    :param collector: the part of ``cpu`` in the garbage collector.
    :param syncs: number of syncs.
    """

    wall: float
    cpu: float
    store: float
    collector: float
    syncs: float


class _Meter:
    """Measures what steps take. One at a time, in the thread of the event loop."""

    def __init__(self) -> None:
        self._syncs: Any = ctypes.CDLL(None).flexmw_syncs
        self._collector = self._began = 0.0

    def collected(self, phase: str, _: Any) -> None:
        """A callback of the garbage collector."""
        now = time.thread_time()
        if phase == "start":
            self._began = now
        else:
            self._collector += now - self._began

    async def spent(self, steps: Awaitable[Any], times: int) -> _Spent:
        """Await ``steps``, and return what each of ``times`` steps has taken."""
        before = self._now()
        await steps
        return _Spent(*((after - value) / times for value, after in zip(before, self._now(), strict=True)))

    def _now(self) -> _Spent:
        cpu = time.process_time()
        return _Spent(time.perf_counter(), cpu, cpu - time.thread_time(), self._collector, self._syncs())


async def _inside(sync_us: int, at: Sequence[int], rounds: int) -> Report:
    from benchmarks.idempotency import component, protected

    report, rows, meter = Report(), [], _Meter()
    async with AsyncExitStack() as stack:
        gc.callbacks.append(meter.collected)
        stack.callback(gc.callbacks.remove, meter.collected)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        steps, close_driver = sqlite_floor(folder / "floor.db")
        stack.push_async_callback(close_driver)
        host = Host()
        app = protected(host.app, f"sqlite:///{folder / 'keys.db'}")
        stack.push_async_callback(close, app)
        floor_host = Host()
        floor = GroupFloor(floor_host.app, folder / "groups.db")
        stack.push_async_callback(floor.close)
        store_host = Host()
        store = StoreFloor(store_host.app, folder / "store.db")
        stack.push_async_callback(store.close)
        claims_host = Host()
        claims = ClaimsFloor(claims_host.app, component(f"sqlite:///{folder / 'claims.db'}"))
        stack.push_async_callback(claims.close)

        async def pairs() -> None:
            for _ in range(_PAIRS):
                await steps["first"]()

        async def requests(host: Host, app: Any, at_once: int) -> _Spent:
            times = _REQUESTS.get(at_once, max(_MANY_REQUESTS, 2 * at_once))
            return await meter.spent(run_batch(host, app, TRAFFIC["first"], times, at_once), times)

        for at_once in at:

            async def turn(at_once: int = at_once) -> list[_Spent]:
                return [
                    await meter.spent(pairs(), _PAIRS),
                    await requests(floor_host, floor, at_once),
                    await requests(store_host, store, at_once),
                    await requests(claims_host, claims, at_once),
                    await requests(host, app, at_once),
                ]

            await turn()
            gc.collect()
            gc.freeze()
            rounds_made = [await turn() for _ in range(rounds)]
            for side, (name, figure) in enumerate(_SIDES):
                ratio = statistics.median(made[0].wall / made[side].wall for made in rounds_made)
                spent = _Spent(*map(statistics.median, zip(*(made[side] for made in rounds_made), strict=True)))
                rows.append([name, str(at_once if side else 1), f"{1 / spent.wall:,.0f}", f"{ratio:.2f}"])
                rows[-1] += [f"{seconds * 1e6:.0f}" for seconds in (spent.cpu, spent.store, spent.collector)]
                rows[-1].append(f"{spent.syncs:.2f}")
                if figure:
                    report.figures[f"idempotency.synced.{at_once}.{figure}"] = ratio
                if name == "flexmw":
                    report.figures[f"idempotency.synced.{at_once}.syncs"] = spent.syncs
    title = f"sqlite, on a disk whose sync takes {sync_us / 1000:g} ms: keyed, first execution"
    columns = ["", "at once", "per second", "/ two durable transactions in a row"]
    columns += ["CPU, us", "store's thread, us", "garbage collector, us", "syncs"]
    report.tables.append(Table("idempotency", title, columns, rows, _NOTE))
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--us", type=int, default=SYNC_US, help="microseconds of one sync")
    parser.add_argument("--at", nargs="*", type=int, default=AT_ONCE, help="requests at once")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds of each side")
    parser.add_argument("--json", help="a file for the report")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.inside:
        asyncio.run(_inside(chosen.us, chosen.at, chosen.rounds)).write(chosen.json)
        return 0
    try:
        report = measured(sync_us=chosen.us, at=chosen.at, rounds=chosen.rounds)
    except Unavailable as error:
        print(error, file=sys.stderr)
        return 1
    report.show()
    report.write(chosen.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
