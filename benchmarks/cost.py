"""``python -m benchmarks.cost``: what a request without faults costs, counted and not timed.

    python -m benchmarks.cost                        # bytecodes, of each path and beside the same request alone
    python -m benchmarks.cost --profile httpx Retry  # where the added bytecodes of one path go
    python -m benchmarks.cost --instructions         # machine instructions, by valgrind: some minutes
    python -m benchmarks.cost --json                 # bytecodes, as tests/test_cost.py reads them

Nothing goes over a socket. Bytecodes leave out the functions written in C, instructions leave out the kernel; a figure
of either moves only with the code, never with the load of the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path as File
from types import CodeType
from typing import Final

from benchmarks.bytecodes import counting
from benchmarks.paths import Path, Step, client_paths, server_paths

__all__ = ["main"]

WARM_UP: Final = 40
"""After so many requests the interpreter has specialized the code: earlier ones cost more instructions."""

COUNTS: Final = 5
CALLS: Final = 20
"""Requests of a path that are counted together by valgrind."""


async def bytecodes(path: Path) -> Counter[CodeType]:
    """What one request of a path executes.

    The first requests open a connection and fill caches. What happens once in a while, such as a garbage collection
    or the check for an OpenTelemetry SDK, may fall into one request: the cheapest of several counts.
    """
    step = path.prepare()
    for _ in range(WARM_UP):
        await step()
    found: list[Counter[CodeType]] = []
    for _ in range(COUNTS):
        with counting() as counts:
            await step()
        found.append(counts)
    return min(found, key=Counter.total)


async def instructed(steps: Sequence[Step]) -> None:
    """Run under valgrind, which writes its counts at each call of ``getpgid``: see :func:`instructions`."""
    for step in steps:
        for _ in range(WARM_UP):
            await step()
    gc.collect()
    gc.disable()  # a collection falls into the requests of one path or another, and costs as much as one of them
    control = ["callgrind_control", "--instr=on", str(os.getpid())]
    subprocess.run(control, check=True, stdout=subprocess.DEVNULL)  # noqa: ASYNC221 - nothing else runs
    for step in steps:
        await step()
        os.getpgid(0)
        for _ in range(CALLS):
            await step()
        os.getpgid(0)


def instructions(*choice: str) -> list[float]:
    """Machine instructions of a request of each path.

    :param choice: the arguments that chose the paths.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = File(folder) / "counts"
        valgrind = ("valgrind", "--tool=callgrind", "--instr-atstart=no", "--dump-before=getpgid")
        subprocess.run(
            [
                *valgrind,
                f"--callgrind-out-file={file}",
                sys.executable,
                "-m",
                "benchmarks.cost",
                "--instructed",
                *filter(None, choice),
            ],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
        dumps = sorted(File(folder).glob("counts.*"), key=lambda dump: int(dump.suffix[1:]))
        totals = [int(re.findall(r"^(?:totals|summary): (\d+)", dump.read_text(), re.MULTILINE)[-1]) for dump in dumps]
    return [total / CALLS for total in totals[1::2]]


async def counted(paths: Sequence[Path]) -> list[float]:
    return [(await bytecodes(path)).total() for path in paths]


def show(paths: Sequence[Path], costs: Sequence[float], unit: str) -> None:
    plain = {path.group: cost for path, cost in zip(paths, costs, strict=True) if path.name == "plain"}
    print(f"{'request':14}{'with':26}{unit:>14}{'added':>10}{'/ plain':>9}")
    for path, cost in zip(paths, costs, strict=True):
        base = plain[path.group]
        print(f"{path.group:14}{path.name:26}{cost:>14,.0f}{cost - base:>10,.0f}{cost / base:>9.3f}")


def profile(path: Path, plain: Path, rows: int) -> None:
    """Where a path executes more than the same request without components: code objects by file, line and name."""
    added = Counter(located(asyncio.run(bytecodes(path))))
    added.subtract(located(asyncio.run(bytecodes(plain))))
    print(f"{path.group}, {path.name}: {added.total():,} bytecodes added")
    for place, count in added.most_common(rows):
        if count:
            print(f"{count:>6}  {place}")


def located(counts: Counter[CodeType]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for code, count in counts.items():
        file = File(code.co_filename)
        found[f"{file.parent.name}/{file.name}:{code.co_firstlineno} {code.co_qualname}"] += count
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("only", nargs="*", help="a group (httpx, 'httpx2 async', GET ...) and the name of a path")
    parser.add_argument("--post", action="store_true", help="clients send a POST instead of a GET")
    parser.add_argument("--profile", action="store_true", help="show where the added bytecodes go")
    parser.add_argument("--rows", type=int, default=60, help="lines of the profile")
    parser.add_argument("--instructions", action="store_true", help="count machine instructions by valgrind")
    parser.add_argument("--instructed", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print bytecodes as JSON")
    chosen = parser.parse_args()
    group, name = (*chosen.only, "", "")[:2]
    every = [*client_paths("POST" if chosen.post else "GET"), *server_paths()]
    paths = [path for path in every if group in ("", path.group) and path.name in (name or path.name, "plain")]
    if chosen.instructed:

        async def run() -> None:
            await instructed([path.prepare() for path in paths])

        asyncio.run(run())
    elif chosen.profile:
        plain = {path.group: path for path in every if path.name == "plain"}
        for path in (path for path in paths if path.name != "plain"):
            profile(path, plain[path.group], chosen.rows)
    elif chosen.instructions:
        show(paths, instructions(*chosen.only, *(["--post"] if chosen.post else [])), "instructions")
    elif chosen.json:
        costs = asyncio.run(counted(paths))
        print(json.dumps([[path.group, path.name, cost] for path, cost in zip(paths, costs, strict=True)]))
    else:
        show(paths, asyncio.run(counted(paths)), "bytecodes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
