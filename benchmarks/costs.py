"""Count what one request of a path costs, by measures that no load of the machine moves."""

from __future__ import annotations

import gc
import tracemalloc
from collections import Counter
from dataclasses import asdict, dataclass
from types import CodeType
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from benchmarks.bytecodes import counting
from benchmarks.counters import Commits, counting_requests
from benchmarks.paths import Path, Steps

__all__ = ["MEASURES", "Cost", "SpanCounter", "bytecodes", "cost_of"]

WARM_UP: Final = 12
"""After so many requests connections are open and caches are full."""

COUNTS: Final = 3
_LEFT_OUT: Final = ("/asyncio/", "/selectors.py", "/benchmarks/counters.py")
"""The event loop turns once or twice while a request waits for a store, and the counters are no part of the request."""


@dataclass(frozen=True)
class Cost:
    """What one request of a path costs.

    :param bytecodes: bytecodes that the thread of the event loop executes, without those of the event loop.
    :param peak_bytes: bytes that are allocated at the same time, at most.
    :param commands: commands that reach redis.
    :param commits: durable commits of sqlite.
    :param tasks: tasks that are started.
    :param threads: results that come from another thread.
    :param spans: spans that are recorded.
    """

    bytecodes: int
    peak_bytes: int
    commands: float = 0
    commits: float = 0
    tasks: float = 0
    threads: float = 0
    spans: float = 0

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


MEASURES: Final = tuple(Cost.__dataclass_fields__)


class SpanCounter(SpanProcessor):
    """Counts the spans that end."""

    def __init__(self) -> None:
        self.number = 0

    def on_end(self, span: ReadableSpan) -> None:
        self.number += 1


async def _run(steps: Steps) -> None:
    if steps.before is not None:
        await steps.before()
    await steps.step()


async def bytecodes(steps: Steps) -> Counter[CodeType]:
    """What one request executes. What happens once in a while, such as a garbage collection or the check for an
    OpenTelemetry SDK, may fall into one request: the cheapest of several counts."""
    found: list[Counter[CodeType]] = []
    for _ in range(COUNTS):
        if steps.before is not None:
            await steps.before()
        with counting() as counts:
            await steps.step()
        for code in [code for code in counts if any(part in code.co_filename for part in _LEFT_OUT)]:
            del counts[code]
        found.append(counts)
    return min(found, key=Counter.total)


async def _peak_bytes(steps: Steps) -> int:
    gc.collect()
    gc.disable()
    tracemalloc.start()
    found = []
    try:
        await _run(steps)
        for _ in range(COUNTS):
            if steps.before is not None:
                await steps.before()
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            await steps.step()
            found.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
        gc.enable()
    return min(found)


async def cost_of(path: Path, redis: str | None, commits: Commits, spans: SpanCounter) -> Cost:
    """Count the requests of one path.

    :param redis: the URL of the redis whose commands are counted, where the path has one.
    :param commits: counts the commits of every sqlite connection of the process.
    :param spans: counts the spans of the process.
    """
    async with path.steps() as steps:
        for _ in range(WARM_UP):
            await _run(steps)
        executed = (await bytecodes(steps)).total()
        peak = await _peak_bytes(steps)
        url = redis if path.group.endswith("redis") else None
        counted: list[dict[str, Any]] = []
        for _ in range(COUNTS):
            if steps.before is not None:
                await steps.before()
            recorded = spans.number
            with counting_requests(url, commits) as counts:
                await steps.step()
            counted.append({**asdict(counts), "spans": spans.number - recorded})
        # A heartbeat or the turn of a second may fall into one request.
        return Cost(executed, peak, **{name: min(each[name] or 0 for each in counted) for name in counted[0]})
