"""Fault combinations: one POST of each client and body under each fault of a server, counted by executions.

A POST is executed once at most: one without a key under every fault, one with a key on a server that honours keys. A
call ends in its time, and its caller gets a response or an error of its own library.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import httpx
import httpx2

import flexmw
from benchmarks.hostile.table import Findings, Row, Settings
from flexmw.testing import HostileServer
from flexmw.testing.hostile import FAULTS, WAITS

__all__ = ["run"]

THREADS: Final = 16
"""A call mostly waits."""

READ_SECONDS: Final = 0.25
DEADLINE: Final = 8.0
COMPONENTS: Final = (flexmw.Tagging(), flexmw.Retry(deadline=DEADLINE))
LONGEST_CALL: Final = 4 * DEADLINE
"""Seconds. Without a deadline Retry waits for a minute where a server says so, and for an execution under a key."""

SECURE: Final = ("plain-text",)
HTTP2: Final = tuple(name for name, fault in FAULTS.items() if getattr(fault, "protocol", "") == "http2")
STATUSES: Final = ("408", "409", "421", "425", "429", "500", "501", "502", "503", "504", "520", "529")


async def _pieces() -> AsyncIterator[bytes]:
    yield b'{"n":'
    yield b"1}"


BODIES: Final[Mapping[str, Callable[[bool], dict[str, Any]]]] = {
    "JSON": lambda is_async: {"json": {"n": 1}},
    "bytes": lambda is_async: {"content": b"x" * 70_000},
    "form": lambda is_async: {"data": {"n": "1"}},
    "pieces": lambda is_async: {"content": _pieces() if is_async else iter([b'{"n":', b"1}"])},
    "nothing": lambda is_async: {},
}
"""The arguments of a call, for a client that is async or not."""


def run(settings: Settings) -> Iterator[Row]:
    """As many combinations as fit into the time, drawn without a repetition; in a long run, all."""
    faults = (*FAULTS, *STATUSES, *(f"{status}:{wait}" for status in ("429", "503") for wait in WAITS))
    combinations = list(itertools.product(faults, (httpx, httpx2), (False, True), BODIES, (False, True)))
    Random(settings.seed).shuffle(combinations)
    calls = itertools.starmap(Call, combinations)
    findings = Findings()
    slowest = [0.0]
    lock = threading.Lock()
    ends = time.monotonic() + 2 * settings.seconds

    def work() -> None:
        while time.monotonic() < ends:
            with lock:
                call = next(calls, None)
            if call is None:
                return
            executions, seconds, error = call.make()
            with lock:
                slowest.append(seconds)
                findings.inputs += 1
                findings.check(error is None, "an error that is not the library's", f"{call}: {error!r}")
                findings.check(executions <= 1, "executed twice", f"{call}: {executions}")
                findings.check(seconds < LONGEST_CALL, "too slow", f"{call}: {seconds:.1f} s")

    with ThreadPoolExecutor(THREADS) as pool:
        for future in [pool.submit(work) for _ in range(THREADS)]:
            future.result()
    note = f"of {len(combinations):,} combinations; slowest call {max(slowest):.1f} s"
    yield findings.row("client", "POST under fault x library x body x key", note)


@dataclass(frozen=True)
class Call:
    """One combination.

    :param fault: the name of what the server does.
    :param library: httpx or httpx2.
    :param is_async: with the async client of the library.
    :param body: a name of :data:`BODIES`.
    :param keyed: with a key that the server honours.
    """

    fault: str
    library: Any
    is_async: bool
    body: str
    keyed: bool

    def make(self) -> tuple[int, float, Exception | None]:
        """Make the call. Returns the executions, the seconds, and an error that is not one of the library's."""
        http2 = self.fault in HTTP2
        # A GOAWAY that covers nothing is repeated by the HTTP/2 connection itself, without end.
        script: Any = {"script": [self.fault]} if self.fault == "goaway" else {"then": self.fault}
        tls = http2 or self.fault in SECURE
        error: Exception | None = None
        with HostileServer(**script, tls=tls, http2=http2, dedup=True, key_ttl=60 if self.keyed else None) as server:
            timeout = self.library.Timeout(2.0, read=READ_SECONDS)
            client: dict[str, Any] = {"timeout": timeout, "trust_env": False, "http2": http2}
            if tls:
                client["verify"] = server.client_context()
            began = time.monotonic()
            try:
                self._post(f"{server.url}/pay", client)
            except self.library.HTTPError:
                pass
            except Exception as unexpected:
                error = unexpected
            return server.executions, time.monotonic() - began, error

    def _post(self, url: str, client_options: dict[str, Any]) -> None:
        options = BODIES[self.body](self.is_async)
        if self.keyed:
            options["headers"] = {"Idempotency-Key": "one"}
        if not self.is_async:
            with flexmw.wrap_client(self.library.Client(**client_options), *COMPONENTS) as client:
                client.post(url, **options)
            return

        async def post() -> None:
            async with flexmw.wrap_client(self.library.AsyncClient(**client_options), *COMPONENTS) as client:
                await client.post(url, **options)

        asyncio.run(post())
