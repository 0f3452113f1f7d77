"""Replays: each shape of response, twice under one key. The repetition is the first response again, and runs nothing.

Then streams without an end, whose clients leave: their executions end.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.hostile.servers import Server, serving, store_url
from benchmarks.hostile.table import Findings, Row, Settings
from benchmarks.hostile.traffic import judge
from benchmarks.hostile.wire import NotHTTP, Response, connect, exchange, request_bytes, reset

__all__ = ["run"]

# fmt: off
STORED: Final = (
    200, 201, 202, 204, 205, 206, 207, 226, 301, 303, 304, 403, 404, 405, 406, 410, 418, 451, 500, 501, 502, 504,
)
# fmt: on
SHAPES: Final = (
    *(f"/status/{status}" for status in STORED),
    "/file",
    "/background",
    "/background?broken=true",
    "/stream?parts=7&size=100",
    "/stream?parts=7&size=100&events=true",
    "/stream?parts=1&size=0",
    "/stream?parts=300&size=3000",
    "/stream?parts=8&events=true&broken=true",
)
WITHOUT_BODY: Final = (204, 205, 304)
ENDLESS: Final = "/stream?parts=1000000000&size=30000&pause=0.005&events=true"
READERS: Final = 15
LONGEST_END: Final = 25.0
"""Seconds. A stream of an SDK without a key goes on for ten; one above ``max_body`` ends at once."""


def run(settings: Settings) -> Iterator[Row]:
    """Both on each server and each store."""
    for name, store in settings.places:
        log = settings.folder / f"replays-{name}-{store}"
        log.touch()
        with store_url(store, settings.folder) as url:
            environment = {"HOSTILE_STORE": url, "HOSTILE_LOG": str(log)}
            with serving(name, settings.folder, environment) as server:
                replays, endless = Findings(), Findings()
                asyncio.run(_replay(server, replays))
                note = asyncio.run(_leave(server, endless))
        _count(log, replays)
        yield replays.row("idempotency", f"replays of each shape, {name}, {store}")
        yield endless.row("idempotency", f"endless streams whose clients leave, {name}, {store}", note)


async def _replay(server: Server, findings: Findings) -> None:
    for number, shape in enumerate(SHAPES):
        for method in ("POST", "PATCH"):
            headers = [("Authorization", "Bearer one"), ("Idempotency-Key", f"{method}-{number}")]
            data = request_bytes(method, shape, headers, b"{}")
            first = await _response(server, data, method)
            again = await _response(server, data, method)
            findings.inputs += 1
            trial = f"{method} {shape}"
            if again is None:
                findings.check(False, "no replay", trial)
                continue
            judge(findings, trial, again, *((first.status,) if first else (200, 500)))
            findings.check(again.header("idempotent-replayed") == "true", "not replayed", trial)
            if first is not None:
                findings.check(first.body == again.body, "another body", (trial, first.body[-90:], again.body[-90:]))
                findings.check(first.header("vary") == again.header("vary"), "another Vary", trial)
            findings.check(not (again.body and again.status in WITHOUT_BODY), "a body after 204, 205, 304", trial)


async def _response(server: Server, data: bytes, method: str) -> Response | None:
    """``None`` for a response that breaks, as a broken stream does."""
    try:
        return await exchange(server.port, data, method=method)
    except NotHTTP:
        return None


def _count(log: Path, findings: Findings) -> None:
    runs = Counter(line.partition(" ")[0] for line in log.read_text().splitlines())
    for key, count in runs.items():
        findings.check(key == "-" or count == 1, "executed twice", (key, count))


async def _leave(server: Server, findings: Findings) -> str:
    """Clients leave streams without an end: without a key, with one, and with the count of an SDK."""
    before = await _tasks(server)
    for number in range(READERS):
        for kind in ((), (("Idempotency-Key", f"endless-{number}"),), (("x-stainless-retry-count", "0"),)):
            findings.inputs += 1
            reader, writer = await connect(server.port)
            body = json.dumps({"n": number, "kind": len(kind)}).encode()
            writer.write(
                request_bytes("POST", ENDLESS, [("Authorization", f"Bearer {number}"), *kind], body, close=False)
            )
            await reader.read(1000)
            reset(writer)
    most = tasks = await _tasks(server)
    gives_up = time.monotonic() + LONGEST_END
    while tasks > before and time.monotonic() < gives_up:
        await asyncio.sleep(0.5)
        tasks = await _tasks(server)
        most = max(most, tasks)
    findings.check(tasks <= before, "executions that never end", f"{before} -> {most} -> {tasks} tasks")
    return f"tasks {before} -> {most} -> {tasks}"


async def _tasks(server: Server) -> int:
    response = await exchange(server.port, request_bytes("GET", "/statistics"))
    return int(json.loads(response.body)["tasks"])
