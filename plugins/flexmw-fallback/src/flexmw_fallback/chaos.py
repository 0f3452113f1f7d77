"""Chaos run: upstreams with random faults, POSTs from many tasks, and the executions of each call counted.

::

    python -m flexmw_fallback.chaos --calls 10000
    python -m flexmw_fallback.chaos --calls 10000 --permit

Each of the three upstreams executes, refuses, loses responses, cuts bodies, hangs and refuses connections at random.
One call in twenty is cancelled while it is under way. Exit status 1 where a promise was broken: a call with more
executions than its outcome says, a good response without its execution, or an execution of a call that was reported as
not sent or refused. Loopback only; it needs ``flexmw[httpx,httpx2]``.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any, Final

import anyio
import httpx
import httpx2

import flexmw
from flexmw.testing import HostileServer
from flexmw.testing.hostile import Received
from flexmw_fallback import Fallback, Upstream

__all__ = ["Report", "main", "run"]

UPSTREAMS: Final = 3
CANCELLED: Final = 0.05
TIMEOUT: Final = 2.0
PERMITTED: Final = ("ambiguous",)

FAULTS: Final = {
    "ok": 50.0,
    "429:ms=0.02": 10.0,
    "503:ms=0.02": 6.0,
    "429": 3.0,
    "400": 2.0,
    "500": 3.0,
    "503": 3.0,
    "502": 2.0,
    "rst": 4.0,
    "fin": 3.0,
    "cut-head": 2.0,
    "cut-body": 3.0,
    "rst-unread": 2.0,
    "rst-reading": 2.0,
    "stale": 3.0,
    "hang": 0.3,
}
"""The faults of an upstream, and how often each one happens."""


@dataclass
class Report:
    """What became of the calls.

    :ivar calls: the number of the calls.
    :ivar seconds: how long the run took.
    :ivar by_outcome: for each outcome and number of executions, how many calls had it.
    :ivar upstreams_asked: for each number of upstreams that a call was sent to, how many calls.
    :ivar broken: one sentence for each promise that was broken.
    """

    calls: int = 0
    seconds: float = 0.0
    by_outcome: Counter[tuple[str, int]] = field(default_factory=Counter)
    upstreams_asked: Counter[int] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def text(self) -> str:
        """A table for people."""
        outcomes = sorted({outcome for outcome, _ in self.by_outcome})
        most = max((executions for _, executions in self.by_outcome), default=0)
        columns = range(max(1, most) + 1)
        lines = [f"{'outcome':<12}" + "".join(f"{f'{number} executions':>14}" for number in columns)]
        for outcome in outcomes:
            counts = (self.by_outcome[outcome, number] for number in columns)
            lines.append(f"{outcome:<12}" + "".join(f"{count:>14}" for count in counts))
        asked = ", ".join(f"{number}: {count}" for number, count in sorted(self.upstreams_asked.items()))
        lines.append(f"{self.calls} calls in {self.seconds:.0f} s; requests per call, by calls: {asked}")
        lines.append(f"most executions of one call: {most}; promises broken: {len(self.broken)}")
        return "\n".join([*lines, *self.broken[:20]])


@dataclass(frozen=True)
class _Result:
    """The end of one call: its outcome, and what is said of its executions."""

    call: str
    outcome: str
    upstream: str | None = None
    status: int | None = None
    billed: int = 0
    asked: int = 0


def run(calls: int, *, permit: bool = False, seed: int = 1, at_once: int = 64) -> Report:
    """Make calls, count, and compare.

    :param calls: how many.
    :param permit: whether ambiguous calls may go to another upstream.
    :param seed: of the faults; their order depends on the threads too.
    :param at_once: how many calls are under way at a time.
    """
    chance = random.Random(seed)  # noqa: S311
    names, weights = list(FAULTS), list(FAULTS.values())

    def script(request: Received) -> str:
        return chance.choices(names, weights)[0]

    with ExitStack() as stack:
        stack.enter_context(_quiet())
        servers = [stack.enter_context(HostileServer(script)) for _ in range(UPSTREAMS)]
        stack.enter_context(_outages(servers, chance))
        began = time.monotonic()
        results = anyio.run(_calls, servers, calls, permit, chance, at_once)
        report = _judge(results, servers)
        report.seconds = time.monotonic() - began
    return report


@contextmanager
def _quiet() -> Iterator[None]:
    """A line for each of thousands of calls that are given back helps nobody."""
    logger = logging.getLogger("flexmw")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _outages(servers: list[HostileServer], chance: random.Random) -> Iterator[None]:
    """Let one upstream after the other refuse connections for a moment."""
    over = Event()

    def work() -> None:
        while not over.wait(chance.uniform(0.1, 0.4)):
            with chance.choice(servers).refusing():
                over.wait(chance.uniform(0.05, 0.2))

    thread = Thread(target=work, name="outages")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


async def _calls(
    servers: list[HostileServer], calls: int, permit: bool, chance: random.Random, at_once: int
) -> list[_Result]:
    fallback = Fallback(
        *(Upstream(server.url) for server in servers),
        permit=PERMITTED if permit else (),
        max_retry_after=2.0,
        failures=20,
        cooldown=0.2,
        random=lambda: 0.1,
    )
    retry = flexmw.Retry(jitter=0.01, max_retry_after=2.0, deadline=10.0)
    results: list[_Result] = []
    limiter = anyio.CapacityLimiter(at_once)
    url = f"{servers[0].url}/v1/jobs"
    clients = [
        flexmw.wrap_client(library.AsyncClient(timeout=TIMEOUT, trust_env=False), fallback, retry)
        for library in (httpx, httpx2)
    ]

    async def one(number: int) -> None:
        async with limiter:
            leaves_after = chance.expovariate(50) if chance.random() < CANCELLED else None
            results.append(await _call(clients[number % 2], url, str(number), leaves_after))

    async with clients[0], clients[1], anyio.create_task_group() as tasks:
        for number in range(calls):
            tasks.start_soon(one, number)
    return results


async def _call(client: Any, url: str, call: str, leaves_after: float | None) -> _Result:
    with anyio.move_on_after(leaves_after):
        while True:
            try:
                response = await client.post(url, json={"call": call})
            except Exception as error:
                return _result(call, getattr(error, "flexmw", None), None, type(error).__name__)
            outcome = response.extensions.get("flexmw")
            if getattr(outcome, "reason", None) != "all_cooling":
                return _result(call, outcome, response.status_code, "no outcome")
            await anyio.sleep(0.1)  # nothing was sent, and the response says when to come back
    return _Result(call, "cancelled")


def _result(call: str, outcome: Any, status: int | None, without: str) -> _Result:
    if outcome is None:
        return _Result(call, without, status=status)
    name = "good" if outcome.outcome == "answered" and status is not None and status < 400 else outcome.outcome
    billed = len(outcome.maybe_billed)
    return _Result(call, name, outcome.upstream, status, billed, len(outcome.tried))


def _judge(results: list[_Result], servers: list[HostileServer]) -> Report:
    executions: Counter[str] = Counter()
    places: dict[str, set[str]] = {}
    for server in servers:
        for request in server.executed:
            call = json.loads(request.body)["call"]
            executions[call] += 1
            places.setdefault(call, set()).add(server.url)
    report = Report(calls=len(results))
    for result in results:
        number = executions[result.call]
        report.by_outcome[result.outcome, number] += 1
        report.upstreams_asked[result.asked] += 1
        if number > 1 + result.billed and result.outcome != "cancelled":
            report.broken.append(f"call {result.call}: {number} executions, {result.outcome}")
        if result.outcome in ("unsent", "refused") and number > result.billed:
            report.broken.append(f"call {result.call}: reported as {result.outcome}, and executed {number} times")
        if result.outcome == "good" and result.upstream not in places.get(result.call, set()):
            report.broken.append(f"call {result.call}: a good response, and no execution at {result.upstream}")
        if result.outcome not in ("good", "answered", "ambiguous", "refused", "unsent", "cancelled"):
            report.broken.append(f"call {result.call}: {result.outcome}")
    return report


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m flexmw_fallback.chaos", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--permit", action="store_true", help="let ambiguous calls go to another upstream")
    options = parser.parse_args()
    report = run(options.calls, permit=options.permit, seed=options.seed)
    sys.stdout.write(f"{report.text()}\n")
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
