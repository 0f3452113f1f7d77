"""``python -m benchmarks.table``: every figure that has a goal, measured by the other benchmarks, in ten minutes.

    python -m benchmarks.table                                # the goals, and what was measured
    python -m benchmarks.table --runs 3                       # three runs of what the goals need
    python -m benchmarks.table --only stack client            # some parts
    python -m benchmarks.table --json docs/performance.json   # all of docs/performance.md: then
    python -m scripts.performance_page                        # writes the page
    python -m benchmarks.table --only client --json docs/performance.json   # measures a part of it again

Each part runs in a process of its own, one after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from benchmarks.goals import goals_table, middle
from benchmarks.report import Report, Table

__all__ = ["main"]

SHOWN: Final = ("flexmw", "starlette", "httpx", "httpx2", "redis", "opentelemetry-sdk", "uvicorn")
"""Distributions whose versions the report names."""


def stack(quick: bool) -> Report:
    """Requests without a key, through the server components."""
    from benchmarks.stack import without_sockets

    rounds = 15 if quick else 60
    get, post = (asyncio.run(without_sockets(rounds, method=method)) for method in ("GET", "POST"))
    names = [name for name in get if name != "bare"]
    rows = [[name, f"{get[name]:.3f}", f"{post[name]:.3f}" if name in post else "-"] for name in names]
    title = "added to a request without a key / what an empty BaseHTTPMiddleware adds"
    whole = "flexmw, all server components"
    figures = {
        "stack.GET.all": get[whole],
        "stack.POST.all": post[whole],
        "stack.POST.idempotency": post["flexmw Idempotency"],
    }
    return Report([Table("stack", title, ["around a Starlette route", "GET", "POST"], rows)], figures=figures)


def uvicorn(quick: bool) -> Report:
    """Requests per CPU second of a server."""
    from benchmarks.stack import under_uvicorn

    ratios = under_uvicorn(60 if quick else 240)
    rows = [[name, f"{ratio:.3f}"] for name, ratio in ratios.items()]
    title = "requests per CPU second of uvicorn / the bare FastAPI app's"
    table = Table("stack", title, ["around the app", "ratio"], rows)
    figures = {"uvicorn.ratelimit": ratios["flexmw RateLimit"], "uvicorn.by_hand": ratios["a limiter by hand"]}
    return Report([table], figures=figures)


def client(quick: bool) -> Report:
    """Calls without faults."""
    import httpx
    import httpx2

    from benchmarks.retry import CONTESTANTS, PAIRS, measured

    rounds = 30 if quick else 120
    columns = [(library, pair) for pair in PAIRS for library in (httpx, httpx2)]
    ratios = [measured(library, CONTESTANTS, pair, rounds, 30) for library, pair in columns]
    rows = [[name, *(f"{each[name]:.3f}" for each in ratios)] for name in CONTESTANTS]
    names = [f"{library.__name__}, {pair}" for library, pair in columns]
    return Report(
        [Table("client", "CPU of a POST without faults / the plain client's", ["client", *names], rows)],
        figures={
            "client.retry": statistics.mean(each["flexmw Retry"] for each in ratios),
            "client.tagging_retry": statistics.mean(each["flexmw Tagging + Retry"] for each in ratios),
            "client.by_hand": statistics.mean(each["by hand"] for each in ratios),
        },
    )


def telemetry(quick: bool) -> Report:
    """A request to an app that records its own span."""
    from benchmarks.tagging import ratio_of

    kinds = {
        "fastapi": ("fastapi {} / without", "FastAPI native"),
        "native": ("native {} / without", "Starlette native, beside Envelope"),
        "alone": ("native {} alone / without", "Starlette native, Tagging alone"),
    }
    figures, rows = dict[str, float](), []
    for kind, (line, title) in kinds.items():
        row = [title]
        for what, end in (("with Tagging", ""), ("by hand", ".by_hand")):
            for state, name in (("recording", "recording"), ("not sampled", "unsampled")):
                ratio = ratio_of(f"{state}: {line.format(what)}", "/ok", 51 if quick else 151)
                figures[f"telemetry.{name}.{kind}{end}"] = ratio
                row.append(f"{ratio:.3f}")
        rows.append(row)
    columns = ["app", "recording", "unsampled", "recording, by hand", "unsampled, by hand"]
    return Report([Table("telemetry", "CPU of a request with Tagging / without it", columns, rows)], figures=figures)


def streams(quick: bool) -> Report:
    """Chunks at both ends, and what an open stream holds."""
    from benchmarks.open_streams import bytes_of_a_stream
    from benchmarks.streams import CHUNK, measure

    figures = asyncio.run(measure(9 if quick else 31))
    rows = [[name, f"{own:.2f}", f"{added:.2f}"] for name, (own, added) in figures.items()]
    held = asyncio.run(bytes_of_a_stream(500))
    added = held["Idempotency on memory"] - held["no middleware"]
    table = Table("streams", f"a chunk of {len(CHUNK)} bytes, us of CPU", ["a stream", "a chunk", "added"], rows)
    values = {"streams.keyed_chunk_us": figures["server: with a key"][1], "streams.open_kib": added / 1024}
    return Report([table], figures=values)


PARTS: Final[dict[str, Callable[[bool], Report]]] = {
    "stack": stack,
    "uvicorn": uvicorn,
    "client": client,
    "telemetry": telemetry,
    "streams": streams,
}
"""Parts that this program measures by functions of others."""

PROGRAMS: Final[dict[str, tuple[Sequence[str], Sequence[str]]]] = {
    "idempotency": (
        ("benchmarks.idempotency", "--store", "memory", "redis", "--rounds", "7"),
        ("benchmarks.idempotency", "--store", "memory", "redis", "--rounds", "3", "--at", "1", "64", "--no-peers"),
    ),
    "sqlite": (
        ("benchmarks.idempotency", "--store", "sqlite", "--at", "1", "64", "--rounds", "5"),
        ("benchmarks.idempotency", "--store", "sqlite", "--at", "1", "64", "--rounds", "2", "--no-peers"),
    ),
    "sync": (("benchmarks.synced",), ("benchmarks.synced", "--rounds", "3")),
    "scale": (("benchmarks.scale",), ("benchmarks.scale", "--quick")),
    "fleet": (("benchmarks.fleet",), ("benchmarks.fleet",)),
}  # fmt: skip
"""Parts that are programs: the arguments of a whole run and of a quick one."""

FOR_GOALS: Final = ("idempotency", "sync", "stack", "uvicorn", "client", "telemetry", "streams")
"""What is measured again in each run but the first."""


def run_part(name: str, quick: bool) -> Report | None:
    """Measure a part in a process of its own. ``None`` where it fails: its error is printed, and the rest goes on."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.json"
        if name in PROGRAMS:
            arguments = [*PROGRAMS[name][quick], "--json", str(file)]
        else:
            arguments = ["benchmarks.table", "--part", name, "--json", str(file), *(["--quick"] if quick else [])]
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        if done.returncode:
            print(f"python -m {' '.join(arguments)} failed:\n{done.stderr.decode()}", file=sys.stderr, flush=True)
            return None
        return Report.of_json(file.read_text())


def environment() -> Table:
    """What the figures were measured with."""
    rows = [["Python", platform.python_version()], ["cores", str(os.cpu_count())]]
    rows += [[name, importlib.metadata.version(name)] for name in SHOWN]
    return Table("environment", "measured with", ["what", "version"], rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="*", choices=(*PARTS, *PROGRAMS), help="some parts")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: two minutes, and figures that vary")
    parser.add_argument("--runs", type=int, default=1, help="runs of what the goals need")
    parser.add_argument("--json", help="a file for the report")
    parser.add_argument("--check", action="store_true", help="fail where a goal is missed")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.part:
        PARTS[chosen.part](chosen.quick).write(chosen.json)
        return 0
    names = chosen.only or (*PROGRAMS, *PARTS)
    report, runs, failed = Report(), list[dict[str, float]](), 0
    for number in range(chosen.runs):
        figures = dict[str, float]()
        for name in names if number == 0 else [name for name in names if name in FOR_GOALS]:
            measured = run_part(name, chosen.quick)
            if measured is None:
                failed += 1
                continue
            figures |= measured.figures
            if number == 0:
                report.add(measured)
        runs.append(figures)
    report.figures = middle(runs)
    if chosen.only and chosen.json and Path(chosen.json).exists():  # the other parts keep their figures
        earlier = Report.of_json(Path(chosen.json).read_text())
        earlier.add(report)
        report, runs = earlier, [{**earlier.figures, **run} for run in runs]
    table, missed = goals_table(runs)
    others = [each for each in report.tables if each.section not in (table.section, "environment")]
    report.tables = [table, *others, environment()]
    report.show()
    report.write(chosen.json)
    return failed + (missed if chosen.check else 0)


if __name__ == "__main__":
    sys.exit(main())
