"""Write ``docs/performance.md`` and its picture from ``docs/performance.json``: ``python -m scripts.performance_page``.

``python -m benchmarks.table --json docs/performance.json`` measures everything and writes the JSON. A test compares the
page with the JSON; no test compares a figure with anything.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from benchmarks.report import Report, Table
from scripts.curves import draw

__all__ = ["COMMAND", "JSON", "PAGE", "PICTURE", "main", "page", "picture"]

COMMAND: Final = "python -m scripts.performance_page"
_DOCS: Final = Path(__file__).parents[1] / "docs"
JSON: Final = _DOCS / "performance.json"
PAGE: Final = _DOCS / "performance.md"
PICTURE: Final = _DOCS / "performance.svg"

_HEAD: Final = """\
<!-- Written by `python -m scripts.performance_page` from docs/performance.json. Change those, not this page. -->

# Performance

What one request costs with flexmw. Most figures are ratios of two measurements in one run, so that the machine
cancels out. A ratio compares flexmw with something that you know: the bare app, an empty `BaseHTTPMiddleware`, the
bare driver of a store, a plain client. With 0.3 in the first row, `Idempotency` adds 30 % of the time that an empty
`BaseHTTPMiddleware` adds. *Goal* is what the project wants to reach, *before* the figure of an earlier version.
*Floor* is what a stand-in by hand costs, which keeps the same promise with little code. A figure better than its floor
means that the stand-in is not the best one possible.
"""

_SECTIONS: Final = {
    "idempotency": (
        "Idempotency: a keyed POST on each store",
        """\
Around a Starlette route that reads the body and responds with JSON. Before the app runs, the claim of the key is
stored; before the response is sent, it is stored too: these two writes are what a keyed POST has to wait for. *The
bare driver* does the same two writes (for a replay, the one read) and nothing else: two scripts by `redis.asyncio`,
two durable transactions of `sqlite3` in a row. *A dict by hand* is a middleware of 40 lines that knows neither
callers nor leases nor streams. CPU is that of the process, threads included; a redis spends its own besides.

Microseconds are those of the run that measured the table: the same code takes up to twice as many while other
processes use the machine. So compare within a table. A chunk of a keyed stream is in several tables, and adds about
three times the CPU of the bare stream's chunk on memory in each of them.

The other middlewares are those of the package index that install beside today's Starlette and redis-py. They promise
less: none continues a stream that was cut, or recognises the retries of an SDK that sends no key.""",
    ),
    "stack": (
        "Servers: requests without a key",
        "Without an OpenTelemetry SDK. The first table leaves sockets out, the second counts the whole server process.",
    ),
    "streams": (
        "Streams: a chunk at both ends",
        "What Idempotency adds to a chunk on the server, and Retry on the client, beside the same stream without them.",
    ),
    "client": (
        "Clients: a call without faults",
        """\
Over loopback; the CPU of the server is not counted. *By hand* is a transport that asks the same of a call whose first
response ends it: a request of its own, whether it has left, the budget, headers of the request and of the response, an
error of the body.""",
    ),
    "telemetry": (
        "Telemetry: an app that records its own span",
        """\
Both sides have the same providers: traces with a batch processor whose exporter does nothing, metrics with a reader,
and logs. FastAPI records a span and two metrics of each request, Starlette's middleware a span alone. Tagging adds the
count of the request, and looks for what belongs on the span. *By hand* is one middleware with two closures that counts
the same, with exemplars, and asks the same before it knows that there is nothing more to write: suppressed telemetry,
spans around and inside, events and store operations of other components, a disconnect, parts of a body, errors of
`send` and of the app, FastAPI's own telemetry, mounts.""",
    ),
    "scale": (
        "Scale: what costs grow with",
        """\
![Curves: cost by keys, windows, components, open streams and plugins](performance.svg)

A decision of the limiter touches one key; more keys cost more only because less of them is in the caches of the CPU.
Several windows are decided together, in one command. Plugins are read once, when the first stack is built.""",
    ),
    "fleet": (
        "A fleet: a thousand gateways, a hundred million keys",
        """\
A calculation (`python -m benchmarks.fleet`) from what a key and a command cost on a real redis in the same run.
Requests are spread over keys by Zipf's law; each key has the smallest of the limits 60, 600, 6,000 ... a minute that
is at least twice its mean rate. With **token leases** a gateway takes a block of a key's limit and decides on its own
until the block is spent. All gateways of a key together hold at most a tenth of its limit. That tenth is the bound of
the error: a key can be refused while a tenth of its limit lies unspent elsewhere, and tokens that are carried over
the end of a window admit a tenth too much.""",
    ),
    "environment": ("What it was measured with", ""),
}

_LEASES: Final = """\
**flexmw has no token leases, because they do not pay.** Where requests go to any gateway, a gateway sees most keys
less than once in a window, so that a block larger than one only strands tokens: the commands saved are those of the
few keys with limits of at least twenty times the number of gateways, here {any:.0%}, for a tenth of the exactness of
their limits. Where requests are routed by key to one gateway, `RateLimit(storage="memory://")` decides without any
command, and exactly. Between the two, with ten gateways a key, {ten:.0%} would be saved: shards of redis save as much
for any traffic, and stay exact.
"""

_END: Final = """\
## How to measure

```sh
pip install -e . --group bench
python -m benchmarks.table                                # all goals, ten minutes on a quiet machine
python -m benchmarks.table --runs 3 --check               # fails where a goal is missed in one of three runs
python -m benchmarks.table --json docs/performance.json && python -m scripts.performance_page
```

| program | what it measures |
|---|---|
| `benchmarks.idempotency` | a keyed POST on memory, sqlite and redis, timed, and its commands and commits counted |
| `benchmarks.synced` | the same on a sqlite file whose sync takes a known time |
| `benchmarks.stack` | all server components, without sockets and under uvicorn |
| `benchmarks.ratelimit` | decisions on memory and redis, beside `limits`, slowapi and fastapi-limiter |
| `benchmarks.envelope` | the envelope on a 200, on JSON and on streams |
| `benchmarks.streams` | a chunk at both ends |
| `benchmarks.retry` | retrying clients: waits, outages, leaks and cost |
| `benchmarks.tagging` | telemetry, at both ends |
| `benchmarks.scale`, `benchmarks.fleet` | the curves, the memory and the fleet above |
| `benchmarks.startup` | imports and the scan for plugins |
| `benchmarks.cost` | bytecodes, bytes, commands, commits, tasks, threads and spans of each path, counted |

Times vary with the machine, counts do not. `tests/test_cost.py` holds each path to the bounds of
`benchmarks/bounds.py` in every run of the tests: a change that makes a request start one more task, send one more
command or execute 3 % more bytecodes fails there, on any machine, whatever else it does.
"""


def page(report: Report) -> str:
    """The page as Markdown."""
    return "\n".join(_lines(report))


def picture(report: Report) -> str:
    """The curves as SVG."""
    return draw(report.curves)


def _lines(report: Report) -> Iterator[str]:
    yield _HEAD
    for table in report.tables:
        if table.section == "goals":
            yield from _table(table, titled=False)
    for section, (title, text) in _SECTIONS.items():
        tables = [table for table in report.tables if table.section == section]
        if not tables:
            continue
        yield f"## {title}\n"
        if text:
            yield f"{text}\n"
        for table in tables:
            yield from _table(table, titled=section != "environment")
        if section == "fleet":
            saved = [value for name, value in report.figures.items() if name.startswith("fleet.saved.")]
            yield _LEASES.format(any=saved[0], ten=saved[1])
    yield _END


def _table(table: Table, *, titled: bool = True) -> Iterator[str]:
    if titled:
        yield f"**{table.title}**\n"
    yield _row(table.columns)
    yield _row(["---"] * len(table.columns))
    yield from map(_row, table.rows)
    yield f"\n{table.note}\n" if table.note else ""


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> int:
    report = Report.of_json(JSON.read_text())
    PAGE.write_text(page(report))
    PICTURE.write_text(picture(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
