"""A response that runs when a test says so, two processes that share its store, and requests for the rest of it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio

from flexmw.idempotency import Idempotency, LogStore, Store, open_store
from flexmw.kit.asgi import ASGIApp, Receive, Scope, Send
from tests.idempotency.calls import KEYED, Caller
from tests.waiting import LONGEST_WAIT

__all__ = ["BREAK", "BYTES", "EVENT", "Source", "Storage", "Stream", "code", "streaming", "until"]

EVENT = b"data: 1\n\n"
BREAK = b"the app breaks off"
BYTES = [(b"content-type", b"application/octet-stream")]


@dataclass
class Source:
    """An app whose response is what the test says, when the test says it."""

    headers: list[tuple[bytes, bytes]] = field(default_factory=lambda: [(b"content-type", b"text/event-stream")])
    runs: int = 0

    def __post_init__(self) -> None:
        self.began = anyio.Event()
        self._parts: list[bytes | None] = []
        self._changed = anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.runs += 1
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        self.began.set()
        while True:
            while not self._parts:
                self._changed = anyio.Event()
                await self._changed.wait()
            part = self._parts.pop(0)
            if part == BREAK:
                return
            await send({"type": "http.response.body", "body": part or b"", "more_body": part is not None})
            if part is None:
                return

    def send(self, *parts: bytes | None) -> None:
        self._parts += parts
        self._changed.set()

    def end(self) -> None:
        self.send(None)


Storage = Callable[[], "str | Store"]


@dataclass
class Stream:
    """A request that runs, and a second process that shares its store."""

    source: Source
    app: ASGIApp
    other: ASGIApp
    first: Caller
    store: Store

    @property
    def generation(self) -> str:
        return self.first.answer_headers["idempotent-stream"].strip('"')

    def at(self, start: object, app: ASGIApp | None = None, **options: Any) -> Caller:
        """A continuation, by default in the other process."""
        headers = {**KEYED, "idempotent-stream": f'"{self.generation}";from={start}'}
        return Caller(app or self.other, headers=headers, **options)

    async def name(self) -> str:
        (name,) = [name async for name, _ in self.store.scan("flexmw")]
        return name

    async def until_logged(self, size: int) -> None:
        """Wait until the store has so much of the log."""
        name = await self.name()
        assert isinstance(self.store, LogStore)
        # A store has no event for it.
        while (piece := await self.store.read(name, self.generation, 0, 0)) is None or piece.size < size:  # noqa: ASYNC110
            await anyio.sleep(0.01)


@asynccontextmanager
async def streaming(
    storage: Storage, headers: list[tuple[bytes, bytes]] | None = None, **options: Any
) -> AsyncGenerator[Stream]:
    source = Source() if headers is None else Source(headers)
    app, other = (Idempotency(storage=storage(), **options).asgi(source) for _ in range(2))
    first = Caller(app, headers=KEYED)
    with anyio.fail_after(LONGEST_WAIT):
        async with anyio.create_task_group() as group:
            group.start_soon(first)
            try:
                await source.began.wait()
                yield Stream(source, app, other, first, open_store(storage()))
            finally:
                source.end()
    for each in (app, other):
        await each._plan.claims.store.aclose()  # type: ignore[attr-defined]


async def until(condition: Callable[[], object]) -> None:
    """Wait until a response in memory has come so far. It has no event for it."""
    while not condition():  # noqa: ASYNC110
        await anyio.sleep(0.005)


def code(caller: Caller) -> str:
    return str(json.loads(caller.answer)["error"]["code"])
