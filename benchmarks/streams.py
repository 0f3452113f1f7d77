"""What a chunk of a stream costs at both ends, beside the same stream without them.

    python -m benchmarks.streams             # half a minute, no sockets; --check fails where a target is missed

Server: an app that sends event-stream chunks to a ``send`` that does nothing, bare and through Idempotency on memory,
without and with a key. Client: a transport that yields chunks, read by a plain httpx client and through Retry, with and
without the field of a response that can be continued. Every round runs each variant once, in turn, and counts its own
CPU time; a figure is the median of the rounds' differences to the first variant, in microseconds for each chunk.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Final

import httpx
from rich.console import Console
from rich.table import Table

import flexmw
from flexmw.contract.idempotent_stream import STREAM, format_stream

ROUNDS: Final = 31
CHUNKS: Final = 5_000
CHUNK: Final = b"data: " + b"x" * 150 + b"\n\n"
"""158 bytes, which is what one token of a chat completion takes."""

LAST: Final = b"data: [DONE]\n\n"
TARGETS: Final = {
    "server: without a key": 0.25,
    "server: with a key": 1.0,
    "client: a response without the field": 0.1,
    "client: a response that can be continued": 0.4,
    "client, async: a response that can be continued": 0.4,
}
_numbers = itertools.count()


async def app(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for _ in range(CHUNKS):
        await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
    await send({"type": "http.response.body", "body": LAST})


def serving(served: Any, key: bool) -> Callable[[], Awaitable[None]]:
    async def send(message: Any) -> None:
        pass

    async def run() -> None:
        headers = [(b"authorization", b"Bearer caller"), (b"content-type", b"application/json")]
        if key:
            headers.append((b"idempotency-key", b"%d" % next(_numbers)))
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "query_string": b"",
            "headers": headers,
            "http_version": "1.1",
        }
        bodies = iter([{"type": "http.request", "body": b"{}", "more_body": False}])
        never = asyncio.Event()

        async def receive_once() -> dict[str, Any]:
            for message in bodies:
                return message
            await never.wait()
            return {"type": "http.disconnect"}

        await served(scope, receive_once, send)

    return run


class Chunks(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        for _ in range(CHUNKS):
            yield CHUNK
        yield LAST

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(CHUNKS):
            yield CHUNK
        yield LAST


class Transport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    def __init__(self, field: bool) -> None:
        self._headers = {"content-type": "text/event-stream", "idempotency-key-ttl": "3600"}
        if field:
            self._headers[STREAM] = format_stream("0123456789abcdef")

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=self._headers, stream=Chunks())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.handle_request(request)


URL: Final = "https://api.example/v1"


def reading(client: httpx.Client) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        with client.stream("POST", URL, headers={"idempotency-key": str(next(_numbers))}) as response:  # noqa: ASYNC212
            for _ in response.iter_raw():
                pass

    return run


def reading_async(client: httpx.AsyncClient) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        async with client.stream("POST", URL, headers={"idempotency-key": str(next(_numbers))}) as response:
            async for _ in response.aiter_raw():
                pass

    return run


def wrapped(client: Any) -> Any:
    return flexmw.wrap_client(client, flexmw.Retry(key_origins=("https://api.example",)))


def variants() -> list[dict[str, Callable[[], Awaitable[None]]]]:
    """The groups to compare; the first of each group is what the others are held against."""
    protected = flexmw.Idempotency(max_body=4 * 1024 * 1024).asgi(app)
    return [
        {
            "bare app": serving(app, key=True),
            "server: without a key": serving(protected, key=False),
            "server: with a key": serving(protected, key=True),
        },
        {
            "plain client": reading(httpx.Client(transport=Transport(True))),
            "client: a response without the field": reading(wrapped(httpx.Client(transport=Transport(False)))),
            "client: a response that can be continued": reading(wrapped(httpx.Client(transport=Transport(True)))),
        },
        {
            "plain async client": reading_async(httpx.AsyncClient(transport=Transport(True))),
            "client, async: a response that can be continued": reading_async(
                wrapped(httpx.AsyncClient(transport=Transport(True)))
            ),
        },
    ]


async def measure(rounds: int) -> dict[str, tuple[float, float]]:
    """For each variant: microseconds of a chunk, and the difference to the first variant of the group."""
    figures: dict[str, tuple[float, float]] = {}
    for group in variants():
        seconds: dict[str, list[float]] = {name: [] for name in group}
        for number in range(rounds + 2):
            for name, run in group.items():
                gc.collect()
                began = time.process_time()
                await run()
                if number >= 2:
                    seconds[name].append(time.process_time() - began)
        first = next(iter(seconds.values()))
        for name, own in seconds.items():
            added = statistics.median(mine - base for mine, base in zip(own, first, strict=True))
            figures[name] = statistics.median(own) / CHUNKS * 1e6, added / CHUNKS * 1e6
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--check", action="store_true", help="fail where a target is missed")
    options = parser.parse_args()
    table = Table("a stream", "us a chunk", "added", "at most", title=f"{CHUNKS} chunks of {len(CHUNK)} bytes")
    missed = 0
    for name, (own, added) in asyncio.run(measure(options.rounds)).items():
        target = TARGETS.get(name)
        missed += target is not None and added > target
        table.add_row(name, f"{own:.2f}", f"{added:.2f}", "" if target is None else f"{target:.2f}")
    Console(width=100).print(table)
    return int(options.check and missed > 0)


if __name__ == "__main__":
    sys.exit(main())
