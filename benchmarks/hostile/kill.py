"""Kill: the server is killed (SIGKILL) at random moments while keyed POSTs run. No key is executed twice.

:mod:`benchmarks.chaos` does more of this on one server: several workers, a store that is killed, clocks that leap.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import defaultdict
from collections.abc import Iterator
from random import Random
from typing import Final

from benchmarks.hostile.app import LEASE
from benchmarks.hostile.servers import Server, serving, store_url
from benchmarks.hostile.table import Findings, Row, Settings
from benchmarks.hostile.wire import NotHTTP, exchange, request_bytes

__all__ = ["run"]

CLIENTS: Final = 9
ATTEMPTS: Final = 200
PAUSE: Final = 0.1


def run(settings: Settings) -> Iterator[Row]:
    """Kills on each server and each store."""
    for name, store in settings.places:
        log = settings.folder / f"executions-{name}-{store}"
        log.touch()
        with store_url(store, settings.folder) as url:
            environment = {"HOSTILE_STORE": url, "HOSTILE_LOG": str(log)}
            with serving(name, settings.folder, environment) as server:
                killed = Killed(server, Findings(), Random(settings.seed))
                asyncio.run(killed.run(settings.seconds))
        runs: dict[str, set[str]] = defaultdict(set)
        for line in log.read_text().splitlines():
            key, _, number = line.partition(" ")
            runs[key].add(number)
        note = killed.verdict(runs)
        yield killed.findings.row("idempotency", f"kill -9 at random moments, {name}, {store}", note)


class Killed:
    """Clients that send keyed POSTs to a server which is killed again and again."""

    def __init__(self, server: Server, findings: Findings, random: Random) -> None:
        self.findings = findings
        self._server = server
        self._random = random
        self._up = asyncio.Event()
        self._given: dict[str, set[bytes]] = defaultdict(set)
        self._final: dict[str, int] = {}

    async def run(self, seconds: float) -> None:
        """Send and kill until the server has been up for so long; then send each key once more."""
        self._up.set()
        killing = asyncio.create_task(self._kill(seconds))
        await asyncio.gather(killing, *(self._client(number, killing) for number in range(CLIENTS)))
        await asyncio.sleep(LEASE)
        for key in self._final:
            await self._send(key)

    async def _client(self, number: int, killing: asyncio.Task[None]) -> None:
        for count in itertools.count():
            if killing.done():
                return
            await self._send(f"{number}-{count}")

    async def _kill(self, seconds: float) -> None:
        while seconds > 0.0:
            pause = self._random.uniform(0.5, 1.5)
            await asyncio.sleep(pause)
            seconds -= pause
            self._up.clear()
            await asyncio.to_thread(self._server.kill)
            await asyncio.to_thread(self._server.start)
            self._up.set()

    async def _send(self, key: str) -> None:
        """Send a POST until a response ends the call: 200, or 409 ``idempotency_unknown``."""
        headers = [("Idempotency-Key", key), ("Authorization", "Bearer one")]
        data = request_bytes("POST", "/work", headers, b"{}")
        self._final[key] = 0
        for _ in range(ATTEMPTS):
            await self._up.wait()
            self.findings.inputs += 1
            try:
                response = await exchange(self._server.port, data, method="POST", seconds=10.0)
            except (NotHTTP, OSError, TimeoutError):
                await asyncio.sleep(PAUSE * self._random.random())
                continue
            if response.status == 200:
                self._given[key].add(response.body)
            if response.status == 200 or b"idempotency_unknown" in response.body:
                self._final[key] = response.status
                return
            await asyncio.sleep(PAUSE)

    def verdict(self, runs: dict[str, set[str]]) -> str:
        """Compare the responses with the executions of each key. Returns the figures."""
        for key, numbers in runs.items():
            self.findings.check(len(numbers) == 1, "executed twice", (key, numbers))
        for key, bodies in self._given.items():
            self.findings.check(len(bodies) == 1, "two responses for one key", (key, bodies))
            given = {str(json.loads(body)["run"]) for body in bodies}
            self.findings.check(given <= runs[key], "a response without an execution", (key, given, runs[key]))
        for key, status in self._final.items():
            self.findings.check(status, "a key without a final response", key)
        self.findings.check(self._server.kills > 0, "nothing was killed")
        unknown = sum(status == 409 for status in self._final.values())
        return f"{self._server.kills} kills, {len(self._final):,} keys, of which {unknown} unknown"
