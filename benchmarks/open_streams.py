"""Event streams that are open at the same time: what a chunk costs, and what each stream holds in memory."""

from __future__ import annotations

import asyncio
import gc
import itertools
import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any, Final

import flexmw
from benchmarks.streams import CHUNK, LAST

__all__ = ["bytes_of_a_stream", "us_of_a_chunk"]

_numbers = itertools.count()
KEPT_CHUNKS: Final = 16
"""Chunks that each stream has sent when its memory is measured."""


class Streams:
    """An app whose streams all send a chunk when they are told to, and a number of its streams.

    :param wrap: puts a middleware around the app.
    """

    def __init__(self, wrap: Callable[[Any], Any]) -> None:
        self._app = wrap(self._serve)
        self._next_turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turn = 0
        self._is_over = False
        self._running: list[asyncio.Task[None]] = []
        self._began = 0
        self.sent = 0

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        turn = self._turn
        self._began += 1
        while True:
            while turn == self._turn:
                await asyncio.shield(self._next_turn)
            turn += 1
            if self._is_over and turn == self._turn:
                break
            await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
        await send({"type": "http.response.body", "body": LAST})

    async def open(self, number: int) -> None:
        """Open streams until so many are open."""
        self._running += [asyncio.ensure_future(self._request()) for _ in range(number - len(self._running))]
        while self._began < number:  # noqa: ASYNC110 - each turn of the loop opens some
            await asyncio.sleep(0)

    async def _request(self) -> None:
        body = [{"type": "http.request", "body": b"{}", "more_body": False}]
        left: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

        async def receive() -> Any:
            return body.pop() if body else await left

        async def send(message: Any) -> None:
            self.sent += bool(message.get("body"))

        headers = [
            (b"authorization", b"Bearer sk-live-0001"),
            (b"content-type", b"application/json"),
            (b"idempotency-key", b"%d" % next(_numbers)),
        ]
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": "/",
            "query_string": b"",
            "headers": headers,
            "client": ("192.0.2.1", 5000),
        }
        await self._app(scope, receive, send)

    async def send_chunks(self) -> None:
        """Let every stream send a chunk, and wait until all have been sent."""
        sent = self.sent + len(self._running)
        self._take_turn()
        while self.sent < sent:  # noqa: ASYNC110 - each turn of the loop sends some
            await asyncio.sleep(0)

    async def close(self) -> None:
        """End all streams."""
        self._is_over = True
        self._take_turn()
        await asyncio.gather(*self._running)

    def _take_turn(self) -> None:
        self._turn += 1
        turn, self._next_turn = self._next_turn, asyncio.get_running_loop().create_future()
        turn.set_result(None)


def _bare(app: Any) -> Any:
    return app


def _keyed(app: Any) -> Any:
    return flexmw.wrap_app(app, flexmw.Idempotency(storage="memory://", capacity=10**6, capacity_bytes=2**34))


WRAPS: Final = {"no middleware": _bare, "Idempotency on memory": _keyed}


async def us_of_a_chunk(numbers: Sequence[int], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """CPU microseconds of a chunk, by the number of open streams."""
    points: dict[str, list[tuple[float, float]]] = {name: [] for name in WRAPS}
    every = {name: Streams(wrap) for name, wrap in WRAPS.items()}
    for number in numbers:
        times = rounds * max(1, 1_000 // number)
        for streams in every.values():
            await streams.open(number)
            await streams.send_chunks()
        gc.collect()
        gc.freeze()
        spent: dict[str, list[float]] = {name: [] for name in every}
        for _ in range(times):
            for name, streams in every.items():
                began = time.process_time()
                await streams.send_chunks()
                spent[name].append((time.process_time() - began) / number)
        gc.unfreeze()
        for name, values in spent.items():
            points[name].append((number, statistics.median(values) * 1e6))
    for streams in every.values():
        await streams.close()
    return points


async def bytes_of_a_stream(number: int) -> dict[str, float]:
    """Bytes that one open stream holds beyond the chunks that are kept of it, by what is around the app."""
    sizes = {}
    for name, wrap in WRAPS.items():
        streams = Streams(wrap)
        await streams.open(20)
        await streams.send_chunks()
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        await streams.open(20 + number)
        for _ in range(KEPT_CHUNKS):
            await streams.send_chunks()
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        kept = 0 if wrap is _bare else (number + 20) * KEPT_CHUNKS * len(CHUNK)
        sizes[name] = (held - kept) / number
        await streams.close()
    return sizes
