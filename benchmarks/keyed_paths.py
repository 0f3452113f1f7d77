"""The paths of protected POSTs whose cost is counted: each kind of request on memory, on sqlite and on redis.

A path's group is its store; the request ``plain`` of each group goes to the same app without a middleware.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path as File
from typing import Any, Final

import flexmw
from benchmarks.keyed import TRAFFIC, Call, Host, close, post
from benchmarks.paths import RATE, Path, Steps
from benchmarks.streams import CHUNK, LAST, serving

__all__ = ["KEYED", "STREAM", "keyed_paths", "stream_paths"]

KEYED: Final = ("POST on memory", "POST on sqlite", "POST on redis")
STREAM: Final = "stream of 100 chunks"
CHUNKS: Final = 100

Wrap = Callable[[Any, str], Any]


def _idempotency(app: Any, storage: str, **options: Any) -> Any:
    return flexmw.wrap_app(app, flexmw.Idempotency(storage=storage, store_timeout=30.0, **options))


def _all_components(app: Any, storage: str) -> Any:
    components = (flexmw.Tagging(), flexmw.Envelope(), flexmw.RateLimit(RATE), flexmw.Idempotency(storage=storage))
    return flexmw.wrap_app(app, *components)


def _nothing(app: Any, storage: str) -> Any:
    return app


_SDK: Final = partial(_idempotency, sdk_retries=True)
_PATHS: Final[dict[str, tuple[Wrap, str]]] = {
    "plain": (_nothing, "unkeyed"),
    "without a key": (_idempotency, "unkeyed"),
    "first execution": (_idempotency, "first"),
    "replay": (_idempotency, "replay"),
    "refused duplicate": (_idempotency, "duplicate"),
    "SDK, first attempt": (_SDK, "sdk first"),
    "SDK, retry": (_SDK, "sdk retry"),
    "all components, first execution": (_all_components, "first"),
}
"""What is around the app, and the kind of traffic."""


@asynccontextmanager
async def _open(wrap: Wrap, kind: str, group: str, redis: str) -> AsyncGenerator[Steps]:
    """The steps of one path; closes the store afterwards."""
    host, traffic = Host(), TRAFFIC[kind]
    with tempfile.TemporaryDirectory() as folder:
        storage = {"memory": "memory://", "sqlite": f"sqlite:///{File(folder) / 'keys.db'}", "redis": redis}
        app = wrap(host.app, storage[group.rpartition(" ")[2]])
        batch = traffic.batch(1)
        held = [asyncio.ensure_future(post(app, call, 200)) for call in batch.held]
        if held:
            await host.entered.wait()
        repeats = kind in ("replay", "duplicate")
        if repeats:
            for call in batch.before:
                await post(app, call, 200)
        calls: list[Call] = []

        async def before() -> None:
            fresh = batch if repeats else traffic.batch(1)
            for call in () if repeats else fresh.before:
                await post(app, call, 200)
            calls[:] = fresh.measured

        async def step() -> None:
            await post(app, calls[0], traffic.status)

        try:
            yield Steps(step, before)
        finally:
            host.go_on.set()
            await asyncio.gather(*held)
            await close(app)


def keyed_paths(redis: str | None) -> list[Path]:
    """A POST of each kind on each store.

    :param redis: the URL of a redis; ``None`` leaves its group out.
    """
    return [
        Path(group, name, partial(_open, wrap, kind, group, redis or ""))
        for group in KEYED
        if redis or not group.endswith("redis")
        for name, (wrap, kind) in _PATHS.items()
        if group.endswith("memory") or not name.startswith("all components")
    ]


async def _stream(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    for _ in range(CHUNKS):
        await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
    await send({"type": "http.response.body", "body": LAST})


def stream_paths() -> list[Path]:
    """An event stream, bare and through Idempotency on memory."""

    def path(name: str, wrap: Wrap, key: bool) -> Path:
        return Path(STREAM, name, lambda: serving(wrap(_stream, "memory://"), key=key))

    return [
        path("plain", _nothing, True),
        path("without a key", _idempotency, False),
        path("keyed", _idempotency, True),
    ]
