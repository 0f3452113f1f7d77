"""``python -m benchmarks.retry``: waits, outages, leaks and cost of retrying clients, side by side in one run.

1. What each client waits for every form of Retry-After (nothing really sleeps: sleeping is recorded).
2. Requests per call while a server is down for a long time.
3. How many of a hundred calls at once fail on a server that admits twenty a second and says when to come back.
4. A pool of one connection after a thousand calls that fail or are cancelled in every way.
5. CPU time of a call without faults, as a ratio to the plain client's.

Everything runs on loopback, bounded by ``--calls`` and ``--rounds``.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import multiprocessing
import random
import socket
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import cycle
from typing import Any, BinaryIO
from unittest.mock import patch

import anyio
import httpx
import httpx2
import httpx_retries
import openai
from opentelemetry.instrumentation.httpx import SyncOpenTelemetryTransport
from rich.console import Console
from rich.table import Table

import flexmw
from benchmarks.retry_floor import by_hand
from flexmw.testing import FakeClock, HostileServer

__all__ = ["CONTESTANTS", "PAIRS", "main", "measured"]

WAIT = 2
BACKOFF, GIVES_BACK = "backs off", "gives back"
FORMS: dict[str, float | str] = {
    "none": BACKOFF,
    "seconds": 2.0,
    "fraction": 2.0,
    "zero": BACKOFF,
    "negative": BACKOFF,
    "garbage": BACKOFF,
    "empty": BACKOFF,
    "infinite": BACKOFF,
    "nan": BACKOFF,
    "huge": GIVES_BACK,
    "digits": GIVES_BACK,
    "duplicate": 4.0,
    "date": 2.0,
    "date-past": BACKOFF,
    "ms": 2.0,
    "reset": 2.0,
    "reset-duration": 2.0,
    "contract": 2.0,
    "should-retry": BACKOFF,
    "should-not-retry": GIVES_BACK,
    "date-skewed": 2.0,
    "date-behind": 2.0,
}
MESSAGES: Any = [{"role": "user", "content": "hello"}]


def flexmw_waits(url: str) -> list[float]:
    clock = FakeClock(now=time.time())
    policy = flexmw.Retry(jitter=0.0, clock=clock)
    with flexmw.wrap_client(httpx.Client(trust_env=False), policy, clock=clock) as client:
        client.post(url)
    return clock.slept


def httpx_retries_waits(url: str) -> list[float]:
    policy = httpx_retries.Retry(total=2, allowed_methods=["POST"], backoff_factor=0.05)
    with recorded() as slept, httpx.Client(transport=httpx_retries.RetryTransport(retry=policy)) as client:
        client.post(url)
    return slept


def openai_waits(url: str) -> list[float]:
    with recorded() as slept, openai.OpenAI(api_key="k", base_url=f"{url}/v1") as sdk:
        sdk.chat.completions.create(model="m", messages=MESSAGES)
    return slept


@contextmanager
def recorded() -> Generator[list[float]]:
    slept: list[float] = []
    with patch("time.sleep", slept.append):
        yield slept


def right(expected: float | str, slept: list[float], url_calls: int) -> bool:
    """Whether a client did what the header asks for: never early, never much later, nothing where nothing is asked."""
    if expected == GIVES_BACK:
        return not slept and url_calls == 1
    if expected == BACKOFF:
        return len(slept) == 1 and slept[0] < 1.0
    return len(slept) == 1 and float(expected) - 0.02 <= slept[0] <= float(expected) + 1.05


def waits() -> Table:
    clients = {"flexmw": flexmw_waits, "httpx-retries": httpx_retries_waits, "openai": openai_waits}
    table = Table("Retry-After", "right is", *clients, title="seconds waited before the second attempt of a POST")
    score = dict.fromkeys(clients, 0)
    for form, expected in FORMS.items():
        cells = []
        for name, call in clients.items():
            with HostileServer([f"429:{form}={WAIT}"]) as server:
                slept: list[float] = []
                with suppress(Exception):
                    slept = call(server.url)
                good = right(expected, slept, len(server.requests))
            score[name] += good
            cells.append(f"{', '.join(f'{each:.2f}' for each in slept) or '-'}{'' if good else ' (wrong)'}")
        table.add_row(form, str(expected), *cells)
    table.add_row("right of", str(len(FORMS)), *map(str, score.values()))
    return table


def outage(calls: int) -> Table:
    table = Table(
        "client", "calls", "requests per call", title="a server that is down: 503 to everything (target <= 1.25)"
    )

    def row(name: str, make: Callable[[], httpx.Client]) -> None:
        with HostileServer(then="503") as server, recorded(), make() as client:
            for _ in range(calls):
                client.get(server.url)
            table.add_row(name, str(calls), f"{len(server.requests) / calls:.2f}")

    clock = FakeClock()
    instant = flexmw.Retry(clock=clock)
    row("flexmw", lambda: flexmw.wrap_client(httpx.Client(trust_env=False), instant, clock=StandingClock()))
    policy = httpx_retries.Retry(total=2, backoff_factor=0.05)
    row("httpx-retries, total=2", lambda: httpx.Client(transport=httpx_retries.RetryTransport(retry=policy)))
    return table


class TwentyASecond:
    """The script of a server that admits 20 requests in each second and refuses the others with Retry-After: 1."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._second, self._admitted = 0, 0

    def __call__(self, received: object) -> str | None:
        with self._lock:
            now = int(time.monotonic())
            if now > self._second:
                self._second, self._admitted = now, 0
            self._admitted += 1
            return None if self._admitted <= 20 else "429:seconds=1"


def burst(calls: int = 100) -> Table:
    table = Table(
        "client",
        "calls",
        "failed",
        "requests",
        "seconds",
        title="a burst: 20 a second are admitted, the others get 429 with Retry-After: 1 (target: 0 fail)",
    )

    def row(name: str, run: Callable[[str], Awaitable[int]]) -> None:
        with HostileServer(TwentyASecond()) as server:
            began = time.monotonic()
            failed = anyio.run(run, server.url)
            took = time.monotonic() - began
            table.add_row(name, str(calls), str(failed), str(len(server.requests)), f"{took:.1f}")

    async def failures(call: Callable[[], Awaitable[object]]) -> int:
        failed = 0

        async def one() -> None:
            nonlocal failed
            try:
                await call()
            except (httpx.HTTPError, httpx2.HTTPError, openai.OpenAIError):
                failed += 1

        async with anyio.create_task_group() as tasks:
            for _ in range(calls):
                tasks.start_soon(one)
        return failed

    for library in (httpx, httpx2):

        async def with_flexmw(url: str, library: Any = library) -> int:
            client = library.AsyncClient(trust_env=False, timeout=60.0)
            async with flexmw.wrap_client(client, flexmw.Retry(attempts=7)) as http:

                async def call() -> None:
                    (await http.post(url, json={})).raise_for_status()

                return await failures(call)

        row(f"flexmw on {library.__name__}, attempts=7", with_flexmw)
    for retries in (2, 6):

        async def with_openai(url: str, retries: int = retries) -> int:
            async with openai.AsyncOpenAI(api_key="k", base_url=f"{url}/v1", max_retries=retries) as ai:
                return await failures(lambda: ai.chat.completions.create(model="m", messages=MESSAGES))

        row(f"openai, max_retries={retries}", with_openai)
    return table


class StandingClock(FakeClock):
    """Sleeping takes no time at all: many callers at once, not one who waits in line. The budget gains nothing."""

    def sleep(self, seconds: float) -> None:
        return None


FAULTS = ("503:ms=0.001", "rst", "500", "hang", "cut-body", "429:ms=0.001", "fin", "ok", "big-error", "stall-body")


def leaks(calls: int) -> Table:
    table = Table(
        "client",
        "calls",
        "pool timeouts",
        "usable after",
        title="a pool of one connection under faults and cancellation",
    )
    for library in (httpx, httpx2):
        turn = cycle(FAULTS)
        with HostileServer(lambda received: next(turn)) as server:  # noqa: B023 - called while this turn lasts
            timeouts, usable = anyio.run(partial(torment, library, server, calls))
        table.add_row(f"flexmw on {library.__name__}, async", str(calls), str(timeouts), "yes" if usable else "no")
    return table


async def torment(library: Any, server: HostileServer, calls: int) -> tuple[int, bool]:
    policy = flexmw.Retry(attempts=2, jitter=0.0, budget_per_second=1e6, random=lambda: 0.0)
    options = {"limits": library.Limits(max_connections=1), "timeout": 0.02, "trust_env": False}
    timeouts = 0
    async with flexmw.wrap_client(library.AsyncClient(**options), policy) as client:
        for _ in range(calls):
            with anyio.move_on_after(0.03):
                try:
                    await client.get(server.url)
                except library.PoolTimeout:
                    timeouts += 1
                except library.HTTPError:
                    pass
        server.follow([])
        return timeouts, (await client.get(server.url, timeout=5.0)).status_code == 200


def answer_of(body: dict[str, Any], *headers: str) -> bytes:
    content = json.dumps(body).encode()
    lines = ("HTTP/1.1 200 OK", "content-type: application/json", f"content-length: {len(content)}", *headers)
    return "\r\n".join((*lines, "", "")).encode() + content


TEXT = "The Queen turned crimson with fury, and, after glaring at her for a moment like a wild beast. " * 4
ASK = {"model": "alice-2gram", "messages": [{"role": "user", "content": TEXT}], "temperature": 0.2}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
USAGE = {"prompt_tokens": 96, "completion_tokens": 96, "total_tokens": 192}
COMPLETION = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "choices": [CHOICE], "usage": USAGE}
PAIRS: dict[str, tuple[dict[str, Any], bytes]] = {
    "least": ({"n": 1}, answer_of({})),
    "chat": (
        ASK,
        answer_of(
            COMPLETION,
            "date: Sun, 22 Nov 2026 10:00:00 GMT",
            "server: uvicorn",
            "x-request-id: req_0123456789abcdef0123456789abcdef",
            "x-ratelimit-limit-requests: 60",
            "x-ratelimit-remaining-requests: 59",
            "x-ratelimit-reset-requests: 1795341304",
        ),
    ),
}
"""The smallest request and answer there can be, and those of a chat completion: what is sent, what comes back."""


def serve(listener: socket.socket, answer: bytes) -> None:
    """One connection at a time, one answer per request: nothing that could disturb the measurement."""
    while True:
        connection, _ = listener.accept()
        with connection, suppress(OSError), connection.makefile("rb") as received:
            while read_request(received):
                connection.sendall(answer)


def read_request(received: BinaryIO) -> bool:
    """Read a request to its end; False at the end of the connection.

    The clients send head and body in two pieces. A server that answers each piece makes the client connect again, for
    every second request.
    """
    size = 0
    for line in received:
        if line == b"\r\n":
            return len(received.read(size)) == size
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            size = int(value)
    return False


@contextmanager
def quick_server(answer: bytes) -> Generator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = multiprocessing.get_context("fork").Process(target=serve, args=(listener, answer), daemon=True)
        process.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1/x"
        finally:
            process.terminate()
            process.join()


CONTESTANTS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda library: library.Client(trust_env=False),
    "flexmw Retry": lambda library: flexmw.wrap_client(library.Client(trust_env=False), flexmw.Retry()),
    "flexmw Tagging + Retry": lambda library: flexmw.wrap_client(library.Client(trust_env=False)),
    "by hand": by_hand,
}


def overhead(rounds: int, calls: int = 30) -> Table:
    columns = [(library, pair) for pair in PAIRS for library in (httpx, httpx2)]
    table = Table(
        "client",
        *(f"{library.__name__}, {pair}" for library, pair in columns),
        title="CPU of a POST without faults / the plain client's (target: Retry 1.06, with Tagging 1.08)",
    )
    only_httpx: dict[str, Callable[[Any], Any]] = {
        "httpx-retries": lambda library: httpx.Client(transport=httpx_retries.RetryTransport()),
        "otel contrib, no SDK": lambda library: httpx.Client(
            transport=SyncOpenTelemetryTransport(httpx.HTTPTransport())
        ),
    }
    found = []
    for library, pair in columns:
        ratios = measured(library, CONTESTANTS, pair, rounds, calls)
        if library is httpx:
            ratios |= measured(httpx, {"plain": CONTESTANTS["plain"], **only_httpx}, pair, rounds, calls)
        found.append(ratios)
    for name in (*CONTESTANTS, *only_httpx):
        table.add_row(name, *(f"{ratios[name]:.3f}" if name in ratios else "-" for ratios in found))
    return table


def measured(
    library: Any, contestants: dict[str, Callable[[Any], Any]], pair: str, rounds: int, calls: int
) -> dict[str, float]:
    """Short rounds in a new order each; the median of each round's ratio to the plain client of the same round."""
    ratios: dict[str, list[float]] = {name: [] for name in contestants}
    order = list(contestants)
    ask, answer = PAIRS[pair]
    with ExitStack() as open_:
        clients = {
            name: (open_.enter_context(make(library)), open_.enter_context(quick_server(answer)))
            for name, make in contestants.items()
        }
        for client, url in clients.values():
            cpu(client, url, ask, 50)
        gc.collect()
        gc.freeze()
        for _ in range(rounds):
            random.shuffle(order)
            costs = {name: cpu(*clients[name], ask, calls) for name in order}
            for name, cost in costs.items():
                ratios[name].append(cost / costs["plain"])
        gc.unfreeze()
    return {name: statistics.median(each) for name, each in ratios.items()}


def cpu(client: Any, url: str, ask: dict[str, Any], calls: int) -> float:
    began = time.process_time()
    for _ in range(calls):
        client.post(url, json=ask)
    return time.process_time() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--calls", type=int, default=2_000, help="calls in the outage")
    parser.add_argument("--faulted", type=int, default=1_000, help="calls that fail or are cancelled")
    parser.add_argument("--rounds", type=int, default=200, help="rounds of the cost")
    chosen = parser.parse_args()
    logging.disable(logging.WARNING)
    console = Console(width=120)
    for table in (waits(), outage(chosen.calls), burst(), leaks(chosen.faulted), overhead(chosen.rounds)):
        console.print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
