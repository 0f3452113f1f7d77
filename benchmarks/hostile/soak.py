"""Soak: all kinds of traffic at once for a time, then a pause. Memory, descriptors and tasks do not stay."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from random import Random
from typing import Any, Final

from benchmarks.hostile.servers import Server, serving, store_url
from benchmarks.hostile.table import Findings, Row, Settings
from benchmarks.hostile.traffic import TRAFFIC, Traffic
from benchmarks.hostile.wire import NotHTTP, exchange, request_bytes

__all__ = ["run"]

CLIENTS: Final = 12
SHORTEST_FOR_MEMORY: Final = 60.0
"""Seconds. In a shorter run the caches of the first requests are a part of what grows."""

GROWTH: Final = 0.05
MORE_DESCRIPTORS: Final = 8
QUIET_SECONDS: Final = 20.0
TOLD: Final = ("never retrieved", "never awaited", "ResourceWarning", "Task was destroyed")
"""What a server's log must not have."""


def run(settings: Settings) -> Iterator[Row]:
    """A soak on each server and each store."""
    for name, store in settings.places:
        with store_url(store, settings.folder) as url:
            environment = {"HOSTILE_STORE": url, "HOSTILE_LIMITS": url if store == "redis" else "memory://"}
            environment["HOSTILE_TTL"] = str(max(2.0, settings.seconds / 10))
            with serving(name, settings.folder, environment) as server:
                findings = Findings()
                note = asyncio.run(_soak(server, findings, settings.seconds, Random(settings.seed)))
            log = server.log.read_text(errors="replace")
            for words in TOLD:
                findings.check(words not in log, f"the log says {words!r}", log[max(0, log.find(words) - 200) :][:300])
            yield findings.row("whole", f"soak, {name}, {store}", note)


async def _soak(server: Server, findings: Findings, seconds: float, random: Random) -> str:
    traffic = Traffic(server.port, findings, random)
    ends = time.monotonic() + seconds

    async def client(until: float) -> None:
        while time.monotonic() < until:
            name = random.choice(list(TRAFFIC))
            findings.inputs += 1
            try:
                await TRAFFIC[name](traffic)
            except (NotHTTP, OSError, TimeoutError) as error:
                findings.check(False, f"{name}: {type(error).__name__}", error)

    fresh = await _statistics(server)
    await asyncio.gather(*(client(time.monotonic() + seconds * 0.2) for _ in range(CLIENTS)))
    warm = await _quiet(server, fresh)
    await asyncio.gather(*(client(ends) for _ in range(CLIENTS)))
    after = await _quiet(server, fresh)
    growth = after["rss"] / warm["rss"] - 1.0
    findings.check(after["pid"] == fresh["pid"], "the worker was replaced")
    findings.check(after["tasks"] <= fresh["tasks"], "tasks are left", after)
    findings.check(
        after["descriptors"] <= warm["descriptors"] + MORE_DESCRIPTORS, "descriptors are left", (warm, after)
    )
    findings.check(seconds < SHORTEST_FOR_MEMORY or growth <= GROWTH, f"memory grew by {growth:.1%}")
    figures = ("rss", "descriptors", "tasks")
    shown = {name: tuple(each[name] for each in (fresh, warm, after)) for name in figures}
    memory = " -> ".join(f"{value / 1e6:.0f}" for value in shown["rss"])
    others = ", ".join(f"{name} {' -> '.join(map(str, shown[name]))}" for name in figures[1:])
    return f"RSS {memory} MB ({growth:+.1%}), {others}"


async def _statistics(server: Server) -> dict[str, Any]:
    response = await exchange(server.port, request_bytes("GET", "/statistics"))
    statistics: dict[str, Any] = json.loads(response.body)
    return statistics


async def _quiet(server: Server, fresh: dict[str, Any]) -> dict[str, Any]:
    """The statistics once the server has no more tasks than before, or after some seconds."""
    gives_up = time.monotonic() + QUIET_SECONDS
    while True:
        statistics = await _statistics(server)
        if statistics["tasks"] <= fresh["tasks"] or time.monotonic() > gives_up:
            return statistics
        await asyncio.sleep(0.2)
