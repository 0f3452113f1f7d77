"""One POST, one execution, while everything around it fails: the idempotency room's chaos run.

Several processes serve one app on one socket. Clients send keyed POSTs and give up at random, two tenants the same keys
to the same path; one call in five sends no key and numbers its attempts as the SDKs do. The server drops connections at
random; workers and the redis-server are killed (SIGKILL) and started again; each worker's wall clock leaps by hours. At
the end every call is asked about once more, and the figures are held against what was promised::

    python -m benchmarks.chaos --store redis --keys 10000 --seconds 300
    python -m benchmarks.chaos --store sqlite --keys 4000 --seconds 15 --processes 4
    python -m benchmarks.chaos --store sqlite --keys 4000 --seconds 15 --processes 4 --commits 200

Exit status 1 when a promise was broken: a call executed twice, an answer that was given and has no execution or differs
from the first, another tenant's answer, a call that is told neither its answer nor that its outcome is unknown, a
stored 429, or a key that never expires. Bounded: at most ``--seconds`` of chaos, loopback only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import socket
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from benchmarks import chaos_streams
from benchmarks.killed import CALM, Workers, deployment, die_in_commits, keep_running
from flexmw.idempotency import Idempotency, open_store
from flexmw.idempotency.admin import list_keys
from flexmw.kit.clock import SystemClock
from flexmw.kit.exchange import Exchange

LEASE = 3.0
LEAP = 7200.0
TTL = 3600.0
REFUSED_FIRST = "429"

# --- the served app --------------------------------------------------------------------------------------------------


class LeapingClock(SystemClock):
    """A wall clock that a bad time server moves by up to two hours, every now and then."""

    def __init__(self) -> None:
        self._off = 0.0

    def now(self) -> float:
        if random.random() < 0.01:
            self._off = random.uniform(-LEAP, LEAP)
        return time.time() + self._off


Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]


async def work(scope: Any, receive: Any, send: Send) -> None:
    """Write down that the call was executed, work a little, answer. Some answers are refusals, before any work."""
    if scope["type"] != "http":
        return
    await receive()
    key = id_of(scope)
    if key.endswith("7") and random.random() < 0.3:
        await answer(send, 429, b"refused")
        return
    run = f"{os.getpid()}@{time.monotonic():.3f}-{random.getrandbits(24):x}"
    write("runs", f"{key} {run}")
    await asyncio.sleep(random.expovariate(1 / 0.01))
    if random.random() < 0.02:
        raise RuntimeError("the work broke after it had begun")
    await answer(send, 200, f"{key} {run}".encode())


def id_of(scope: Any) -> str:
    tenant = dict(scope["headers"])[b"authorization"].decode().rpartition(" ")[2]
    return f"{tenant}/{scope['path'].rpartition('/')[2]}"


def write(name: str, line: str) -> None:
    with (Path(os.environ["CHAOS_LOGS"]) / name).open("ab", buffering=0) as log:
        log.write(f"{line}\n".encode())


async def answer(send: Send, status: int, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    for start in range(0, len(body), 16):
        await send({"type": "http.response.body", "body": body[start : start + 16], "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def dropping(app: Any) -> Any:
    """Break one connection in twenty after the head of the answer; note for whom the store was away."""

    async def wrapped(scope: Any, receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            return
        broken, answered = random.random() < 0.05, False

        def heard(event: str, details: Any) -> None:
            if answered and event == "flexmw.idempotency.store_failed":
                write("away", id_of(scope))

        Exchange.of(scope).subscribe(heard)

        async def lossy(message: Message) -> None:
            nonlocal answered
            answered = answered or message.get("status") == 200
            if broken and message["type"] == "http.response.body":
                raise OSError("dropped")
            await send(message)

        with contextlib.suppress(RuntimeError, OSError):
            await app(scope, receive, lossy)

    return wrapped


def serve(fd: int, storage: str) -> None:
    """A worker process."""
    import uvicorn

    die_in_commits(Path(os.environ["CHAOS_LOGS"]))
    options = Idempotency(
        storage=storage,
        lease=LEASE,
        ttl=TTL,
        wait=random.choice((0.0, 1.0)),
        clock=LeapingClock(),
        on_store_failure="refuse",
        store_timeout=1.0,
        sdk_retries=True,
        sdk_window=3 * LEAP,
        capacity=None if storage.startswith("redis") else 100_000,
    )
    (Path(os.environ["CHAOS_LOGS"]) / f"ready-{os.getpid()}").touch()
    config = uvicorn.Config(dropping(options.asgi(work)), fd=fd, log_level="critical", lifespan="off")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=fd)])


# --- the clients -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """One logical call. Two tenants use the same keys on the same path; a call without a key numbers its attempts."""

    tenant: str
    number: str
    keyed: bool

    @property
    def id(self) -> str:
        return f"{self.tenant}/{self.number}"

    def headers(self, attempt: int) -> dict[str, str]:
        named = {"Idempotency-Key": self.number} if self.keyed else {"x-stainless-retry-count": str(attempt)}
        return {"Authorization": f"Bearer {self.tenant}", **named}


def calls_of(number: int, seed: int) -> list[Call]:
    return [Call("ab"[each % 2], f"{seed}-{each // 2}", each % 5 > 0) for each in range(number)]


@dataclass
class Told:
    """What the clients were told."""

    bodies: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    final: dict[str, str] = field(default_factory=dict)
    events: Counter[str] = field(default_factory=Counter)
    odd: list[str] = field(default_factory=list)

    def note(self, key: str, answer: httpx.Response) -> bool:
        """Take an answer in; says whether it is the last word on its key."""
        if answer.status_code == 200:
            self.bodies[key].add(answer.text)
            self.final[key] = "answered"
            self.events["another's answer"] += not answer.text.startswith(f"{key} ")
        elif answer.status_code == 500:
            self.final[key] = "failed"
        else:
            code = REFUSED_FIRST if answer.status_code == 429 else answer.json()["error"]["code"]
            self.events[code] += 1
            if answer.headers.get("idempotent-replayed") and answer.status_code == 429:
                self.events["a stored 429"] += 1
            if code != "idempotency_unknown":
                return False
            self.final[key] = "unknown"
        return True


ATTEMPTS = 30


async def send(client: httpx.AsyncClient, call: Call, told: Told, *, first: int = 0) -> None:
    """Again and again until something final is said."""
    impatient = not first
    for attempt in range(ATTEMPTS):
        timeout = random.choice((0.005, 0.02, 5.0)) if impatient and random.random() < 0.2 else 5.0
        try:
            headers = call.headers(first + attempt)
            answer = await client.post(f"/work/{call.number}", headers=headers, timeout=timeout)
        except httpx.TransportError as error:
            told.events[type(error).__name__] += 1
        else:
            if told.note(call.id, answer):
                return
        await asyncio.sleep(min(0.02 * 2**attempt, 0.5) * random.random())


async def chaos(
    url: str, calls: list[Call], seconds: float, workers: Workers, store: Workers | None, folder: Path
) -> Told:
    told, ends = Told(), time.monotonic() + seconds
    waiting = iter(calls)
    limits = httpx.Limits(max_connections=64)

    async def client_task(client: httpx.AsyncClient) -> None:
        for each in waiting:
            if time.monotonic() > ends:
                return
            duplicates = 2 if each.keyed and random.random() < 0.1 else 1
            await asyncio.gather(*(send(client, each, told) for _ in range(duplicates)))

    async def killer() -> None:
        for number in count():
            await asyncio.sleep(random.uniform(1.0, 3.0))
            await asyncio.to_thread(workers.kill_one)
            if store is not None and number % 3 == 1:
                await asyncio.to_thread(store.kill_one)

    async with httpx.AsyncClient(base_url=url, limits=limits) as client:
        killing = asyncio.create_task(killer()) if len(workers.commands) > 1 else None
        running = asyncio.create_task(keep_running(workers))
        await asyncio.gather(*(client_task(client) for _ in range(24)))
        if killing is not None:
            killing.cancel()
        (folder / CALM).touch()
        await asyncio.sleep(LEASE + 1.0)
        asked = calls[: len(calls) - sum(1 for _ in waiting)]
        again = iter(asked)

        async def ask_again() -> None:
            for each in again:
                told.final.pop(each.id, None)
                await send(client, each, told, first=ATTEMPTS)

        await asyncio.gather(*(ask_again() for _ in range(16)))
        running.cancel()
    told.events["distinct calls"] = len(asked)
    return told


# --- the verdict -----------------------------------------------------------------------------------------------------


def verdict(told: Told, logs: Path, calls: list[Call], storage: str) -> dict[str, int]:
    """An answer that the store could not take is handed over all the same. When its process is killed before the store
    is back, nobody can know it any more: the only case in which an answer may be followed by "unknown"."""
    asked = [each.id for each in calls]
    away = set((logs / "away").read_text().splitlines())
    runs: dict[str, set[str]] = defaultdict(set)
    for line in (logs / "runs").read_text().splitlines():
        key, _, run = line.partition(" ")
        runs[key].add(run)
    given = {key: bodies for key, bodies in told.bodies.items() if bodies}
    lost = [key for key in given if told.final.get(key) not in ("answered", None)]
    told.events["answers that the store was not there to take"] = len(away.intersection(lost))
    told.odd = [
        f"{key}: runs {sorted(runs[key])}, told {sorted(told.bodies.get(key, ()))}, at last {told.final.get(key)}"
        for key in asked
        if len(runs[key]) > 1 or told.final.get(key) is None or (key in lost and key not in away)
    ]
    return {
        "executed twice": sum(len(each) > 1 for each in runs.values()),
        "answered without an execution": sum(
            any(body.partition(" ")[2] not in runs[key] for body in bodies) for key, bodies in given.items()
        ),
        "another's answer": told.events["another's answer"],
        "answered in two ways": sum(len(bodies) > 1 for bodies in given.values()),
        "wedged (told nothing final)": sum(key not in told.final for key in asked),
        "given an answer, then none": len(set(lost) - away),
        "a stored 429": told.events["a stored 429"],
        "keys without an expiry": without_expiry(storage),
        "executions": sum(len(each) for each in runs.values()),
    }


def without_expiry(storage: str) -> int:
    if storage.startswith("redis"):
        import redis

        with redis.Redis.from_url(storage) as client:
            return sum(client.pttl(key) < 0 for key in client.scan_iter(count=1000))
    if storage.startswith("sqlite"):
        import sqlite3

        with contextlib.closing(sqlite3.connect(storage.removeprefix("sqlite:///"))) as connection:
            statement = "select count(*) from flexmw_keys where expires is null or expires > ?"
            (count,) = connection.execute(statement, (time.time() + 3 * LEAP + LEAP + 60.0,)).fetchone()
            return int(count)
    return 0


def run(store: str, keys: int, seconds: float, processes: int, seed: int, commits: int) -> int:
    random.seed(seed)
    with deployment(store, processes, "--serve", commits=commits) as running:
        folder, storage, workers, server = running.folder, running.storage, running.workers, running.store
        processes = len(workers.commands)
        (folder / "away").touch()
        calls = calls_of(keys, seed)
        began = time.monotonic()
        url = f"http://127.0.0.1:{running.address[1]}"
        told = asyncio.run(chaos(url, calls, seconds, workers, server, folder))
        took = time.monotonic() - began
        asked = calls[: told.events["distinct calls"]]
        figures = verdict(told, folder, asked, storage)
        figures["processes that should have been killed and were not"] = int(processes > 1 and workers.killed == 0)
        figures["processes that should have died in a commit and did not"] = int(commits > 0 and workers.died == 0)
        if server is not None:
            figures["stores that should have been killed and were not"] = int(server.killed == 0)
        unknown = asyncio.run(_count_unknown(storage)) if store != "memory" else 0
    executions = figures.pop("executions")
    kinds = Counter(told.final.values())
    print(f"store {store}, {processes} processes, {took:.0f} s, seed {seed}")
    without = sum(not each.keyed for each in asked)
    print(f"  distinct calls {len(asked)} ({without} without a key): executions {executions}, {dict(kinds)}")
    print(f"  unknown in the store: {unknown}")
    print(f"  killed: workers {workers.killed}, in a commit {workers.died}, store {server.killed if server else 0}")
    print(f"  met on the way: {dict(told.events)}")
    for what, times in figures.items():
        print(f"  {'ok ' if times == 0 else 'BAD'} {what}: {times}")
    for line in told.odd[:10]:
        print(f"  {line}")
    if told.odd:
        print(f"  workers were killed at {workers.at}, the store at {server.at if server else []}")
    return int(any(figures.values()) or not asked)


async def _count_unknown(storage: str) -> int:
    opened = open_store(storage)
    found = await list_keys(opened, states=("unknown",), limit=10**6)
    await opened.aclose()
    return len(found)


def main() -> int:
    if sys.argv[1:2] == ["--serve"]:
        serve(int(sys.argv[2]), sys.argv[3])
        return 0
    if sys.argv[1:2] == ["--serve-streams"]:
        chaos_streams.serve(int(sys.argv[2]), sys.argv[3])
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--store", choices=("memory", "sqlite", "redis"), default="sqlite")
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--commits", type=int, default=0, help="sqlite: each worker kills itself in one of so many commits on average"
    )
    parser.add_argument("--streams", action="store_true", help="cut event streams: see benchmarks/chaos_streams.py")
    given = parser.parse_args()
    if given.streams:
        return chaos_streams.run(given.store, given.seconds, given.processes, given.seed, given.commits)
    return run(given.store, given.keys, given.seconds, given.processes, given.seed, given.commits)


if __name__ == "__main__":
    raise SystemExit(main())
