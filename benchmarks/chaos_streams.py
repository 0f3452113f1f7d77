"""The chaos run over streams: keyed event streams whose connections are cut, over and over, while workers are killed.

Several processes serve one app on one socket, behind a TCP proxy that ends each connection after a random time, in one
of four ways: closed, reset, left open without a byte more (half-open), and byte by byte before a reset (dripping).
Clients read event streams through Retry, async and blocking. Workers and the redis-server are killed (SIGKILL) and
started again::

    python -m benchmarks.chaos --streams --store redis --seconds 60 --processes 4

A stream is *whole* when the client has read the bytes that one execution sent, and nothing else. Exit status 1 when a
promise was broken: other bytes, two executions of one key, a clean end of an unfinished stream, a reader without an
end, or a run in which nothing was cut, resumed or whole. A stream whose worker was killed cannot be whole: its client
is told so by an exception, which is counted as *lost*. With ``--commits``, few workers live as long as a stream, so
such a run need not have a whole one. Bounded: no stream begins after ``--seconds``, loopback only.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import socket
import struct
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

import httpx

import flexmw
from benchmarks.killed import Workers, deployment, die_in_commits, keep_running
from flexmw.idempotency import Idempotency

__all__ = ["run", "serve"]

EVENTS: Final = 200
PAUSE: Final = 0.02
"""Seconds between two events, on average."""

CUT_AFTER: Final = 1.0
"""Seconds after which a connection is cut, on average."""

READERS: Final = 24
READ_TIMEOUT: Final = 2.0
HUNG_AFTER: Final = 120.0
LEASE: Final = 3.0
DRIPPED: Final = 64
"""Bytes that a dripping connection still lets through, one by one."""

# --- the served app --------------------------------------------------------------------------------------------------

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]


def event(run: str, number: int) -> bytes:
    """One event of a run: other bytes and another length for each run and number."""
    letters = random.Random(f"{run}/{number}").choices("abcdefgh ßé漢", k=20 + number % 97)
    return f'data: {{"run": "{run}", "number": {number}, "text": "{"".join(letters)}"}}\n\n'.encode()


def whole_body(run: str) -> bytes:
    """The body of a stream that nobody has cut."""
    return b"".join(event(run, number) for number in range(EVENTS)) + b"data: [DONE]\n\n"


async def app(scope: Any, receive: Any, send: Send) -> None:
    """Write down that the key was executed, and stream events."""
    if scope["type"] != "http":
        return
    await receive()
    run_id = f"{os.getpid()}-{random.getrandbits(48):x}"
    key = scope["path"].rpartition("/")[2]
    with (Path(os.environ["CHAOS_LOGS"]) / "runs").open("ab", buffering=0) as log:
        log.write(f"{key} {run_id}\n".encode())
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number in range(EVENTS):
        await asyncio.sleep(random.expovariate(1 / PAUSE))
        await send({"type": "http.response.body", "body": event(run_id, number), "more_body": True})
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def serve(fd: int, storage: str) -> None:
    """A worker process."""
    import uvicorn

    die_in_commits(Path(os.environ["CHAOS_LOGS"]))
    options = Idempotency(storage=storage, lease=LEASE, ttl=600.0, store_timeout=1.0)
    (Path(os.environ["CHAOS_LOGS"]) / f"ready-{os.getpid()}").touch()
    config = uvicorn.Config(options.asgi(app), fd=fd, log_level="critical", lifespan="off")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=fd)])


# --- what cuts connections -------------------------------------------------------------------------------------------


@dataclass
class CuttingProxy:
    """A TCP proxy whose connections end after a random time.

    :param upstream: host and port of the server.
    """

    upstream: tuple[str, int]
    cuts: Counter[str] = field(default_factory=Counter)
    connections: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client."""
        task = asyncio.create_task(self._carry(reader, writer))
        self.connections.add(task)
        task.add_done_callback(self.connections.discard)

    async def aclose(self) -> None:
        """End what is left of the connections."""
        left = list(self.connections)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection(*self.upstream)
        except OSError:
            _reset(writer)
            return
        kind = random.choice(("closed", "reset", "half-open", "dripping"))
        seconds = random.expovariate(1 / CUT_AFTER)
        pumps = [asyncio.create_task(_pump(reader, up_writer)), asyncio.create_task(_pump(up_reader, writer))]
        done, _ = await asyncio.wait(pumps, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        with contextlib.suppress(OSError):
            if not done:
                self.cuts[kind] += 1
                await _CUTS[kind](up_reader, writer)
        _reset(up_writer)
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


async def _close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The client reads an end."""


async def _abort(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The client reads a reset."""
    _reset(writer)


async def _stay_open(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The client reads nothing more, until its own timeout."""
    await asyncio.sleep(2 * READ_TIMEOUT)


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The client reads a few bytes, one by one, and then a reset."""
    for byte in await reader.read(DRIPPED):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.002)
    _reset(writer)


_CUTS: Final = {"closed": _close, "reset": _abort, "half-open": _stay_open, "dripping": _drip}


def _reset(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket | None = writer.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


# --- the clients -----------------------------------------------------------------------------------------------------


@dataclass
class StreamRead:
    """What one client has read."""

    key: str
    body: bytearray = field(default_factory=bytearray)
    status: int = 0
    ended: bool = False
    problem: str = ""
    resumed: int = 0
    silent: float = 0.0
    _last: float | None = None

    def add(self, piece: bytes) -> None:
        """Take a piece in, and measure how long the client has waited for it."""
        now = time.monotonic()
        if self._last is not None:
            self.silent = max(self.silent, now - self._last)
        self._last = now
        self.body += piece

    def failed(self, error: BaseException) -> None:
        """The client has raised an exception: the reason that Retry gives, or the class of the exception."""
        outcome = flexmw.outcome_of(error)
        self.problem = (outcome.reason if outcome is not None and outcome.reason else None) or type(error).__name__

    def finish(self, response: httpx.Response) -> None:
        state = response.extensions.get("flexmw.stream")
        self.resumed = 0 if state is None else state.resumed


def policy(url: str) -> flexmw.Retry:
    return flexmw.Retry(attempts=20, key_origins=(url,), resume=10, resume_patience=20.0, budget_per_second=1000.0)


async def read_async(client: httpx.AsyncClient, key: str) -> StreamRead:
    result = StreamRead(key)
    try:
        async with asyncio.timeout(HUNG_AFTER), client.stream("POST", f"/s/{key}", headers=headers(key)) as response:
            result.status = response.status_code
            try:
                async for piece in response.aiter_raw():
                    result.add(piece)
                result.ended = True
            finally:
                result.finish(response)
    except TimeoutError:
        result.problem = "hung"
    except httpx.TransportError as error:
        result.failed(error)
    return result


def read_blocking(client: httpx.Client, key: str) -> StreamRead:
    result = StreamRead(key)
    try:
        with client.stream("POST", f"/s/{key}", headers=headers(key)) as response:
            result.status = response.status_code
            try:
                for piece in response.iter_raw():
                    result.add(piece)
                result.ended = True
            finally:
                result.finish(response)
    except httpx.TransportError as error:
        result.failed(error)
    return result


def headers(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key, "Authorization": "Bearer caller", "Accept": "text/event-stream"}


async def read_all(
    url: str, proxy: CuttingProxy, seconds: float, seed: int, workers: Workers, store: Workers | None
) -> list[StreamRead]:
    """Read streams for ``seconds``, one async client and one blocking client for each four readers."""
    results: list[StreamRead] = []
    ends, numbers = time.monotonic() + seconds, count()
    timeout = httpx.Timeout(10.0, read=READ_TIMEOUT)

    async def reader(read: Callable[[str], Awaitable[StreamRead]]) -> None:
        while time.monotonic() < ends:
            results.append(await read(f"{seed}-{next(numbers)}"))

    async def killer() -> None:
        for number in count():
            await asyncio.sleep(random.uniform(3.0, 6.0))
            await asyncio.to_thread(workers.kill_one)
            if store is not None and number % 3 == 1:
                await asyncio.to_thread(store.kill_one)

    retry = policy(url)
    limits = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(base_url=url, timeout=timeout, limits=limits) as blocking:
        async with httpx.AsyncClient(base_url=url, timeout=timeout, limits=limits) as client:
            flexmw.wrap_client(client, retry)
            flexmw.wrap_client(blocking, retry)
            killing = asyncio.create_task(killer()) if len(workers.commands) > 1 else None
            reads: list[Callable[[str], Awaitable[StreamRead]]] = [
                lambda key: read_async(client, key),
                lambda key: read_async(client, key),
                lambda key: asyncio.to_thread(read_blocking, blocking, key),
            ]
            await asyncio.gather(*(reader(reads[number % 3]) for number in range(READERS)))
            if killing is not None:
                killing.cancel()
    return results


# --- the verdict -----------------------------------------------------------------------------------------------------


def verdict(results: list[StreamRead], logs: Path) -> tuple[dict[str, int], list[StreamRead]]:
    """The broken promises by kind, and the streams that are whole."""
    runs: dict[str, list[str]] = defaultdict(list)
    for line in (logs / "runs").read_text().splitlines():
        key, _, run_id = line.partition(" ")
        runs[key].append(run_id)
    different, unfinished, whole = 0, 0, []
    for result in results:
        if result.status not in (0, 200):
            continue
        bodies = [whole_body(run_id) for run_id in runs[result.key]]
        if result.ended and bytes(result.body) in bodies:
            whole.append(result)
        elif not any(body.startswith(result.body) for body in bodies) and result.body:
            different += 1
        elif result.ended:
            unfinished += 1
    return {
        "different": different,
        "executed twice": sum(len(each) > 1 for each in runs.values()),
        "clean ends of unfinished streams": unfinished,
        "hung readers": sum(result.problem == "hung" for result in results),
    }, whole


async def _run(
    upstream: tuple[str, int], seconds: float, seed: int, workers: Workers, store: Workers | None
) -> tuple[CuttingProxy, list[StreamRead]]:
    proxy = CuttingProxy(upstream)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        running = asyncio.create_task(keep_running(workers))
        results = await read_all(f"http://127.0.0.1:{port}", proxy, seconds, seed, workers, store)
        running.cancel()
        await proxy.aclose()
    return proxy, results


def run(store: str, seconds: float, processes: int, seed: int, commits: int) -> int:
    """One run; the exit status."""
    random.seed(seed)
    logging.getLogger("flexmw.retry").setLevel(logging.ERROR)  # what was lost is counted below
    with deployment(store, processes, "--serve-streams", commits=commits) as running:
        workers, server = running.workers, running.store
        processes = len(workers.commands)
        began = time.monotonic()
        proxy, results = asyncio.run(_run(running.address, seconds, seed, workers, server))
        took = time.monotonic() - began
        broken, whole = verdict(results, running.folder)
    broken["processes that should have died in a commit and did not"] = int(commits > 0 and workers.died == 0)
    resumed = sum(result.resumed for result in results)
    if commits:
        broken["runs without a cut or a resumption"] = int(not (proxy.cuts and resumed))
    else:
        broken["runs without a cut, a resumption or a whole stream"] = int(not (proxy.cuts and resumed and whole))
    silent = sorted(result.silent for result in whole if result.resumed) or [0.0]
    lost = Counter(result.problem or f"status {result.status}" for result in results if result not in whole)
    print(f"streams over {store}, {processes} processes, {took:.0f} s, seed {seed}")
    print(f"  streams {len(results)}, cuts {proxy.cuts.total()} {dict(proxy.cuts)}, resumptions {resumed}")
    print(f"  whole {len(whole)}, lost {dict(lost)}")
    print(f"  killed: workers {workers.killed}, in a commit {workers.died}, store {server.killed if server else 0}")
    print(
        f"  longest silence of a resumed stream: p50 {silent[len(silent) // 2]:.2f} s, "
        f"p99 {silent[len(silent) * 99 // 100]:.2f} s (a half-open connection is silent for {READ_TIMEOUT} s by itself)"
    )
    for what, times in broken.items():
        print(f"  {'ok ' if times == 0 else 'BAD'} {what}: {times}")
    return int(any(broken.values()))
