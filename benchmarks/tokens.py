"""Streamed chat completions settle to exactly the sum of their usage.

Several processes serve one app behind ``RateLimit(usage="openai")``. Clients stream from all of them, and one in five
leaves in the middle. Each process keeps a ledger of what its model has used. At the end the limiter must have charged
exactly the sum of the ledgers: for streams that were cut, with an idempotency key the usage of the execution that went
on, without a key the estimate of the prompt and what was sent::

    python -m benchmarks.tokens
    python -m benchmarks.tokens --streams 200 --processes 2

Exit status 1 where a sum differs, or where a request was refused. Bounded: loopback only, about half a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

import flexmw
from benchmarks.peers import redis_server

__all__ = ["Figures", "run", "served_app"]

LIMIT = 1_000_000_000
PIECES = 12
AT_ONCE = 32
KEY = {"authorization": "Bearer sk-tokens"}
SECONDS = 60.0


class Figures(NamedTuple):
    """What a run has shown.

    :param used: the tokens that the models have used.
    :param charged: the tokens that the limiter has charged.
    :param cut: the streams that did not reach their end in the app.
    """

    streams: int
    left: int
    cut: int
    refused: int
    used: int
    charged: int


# --- the served app --------------------------------------------------------------------------------------------------


class Model:
    """An app that streams completions, and the ledger of what they have used."""

    def __init__(self) -> None:
        self.used = self.cut = self.running = 0

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        events = self.events(body["messages"][0]["content"], body.get("stop_after"))
        return StreamingResponse(events, media_type="text/event-stream")

    async def events(self, prompt: str, stop_after: int | None) -> AsyncGenerator[bytes]:
        """The events of a completion.

        :param stop_after: after so many pieces, wait for the client to leave; ``None``: do not.
        """
        read, written, sent = random.randint(1, 500), random.randint(PIECES, 3 * PIECES), 0
        used = len(prompt) // 4 + 4  # the estimate: a token for four bytes, and the frame of the message
        try:
            for _ in range(PIECES):
                await asyncio.sleep(SECONDS if sent == stop_after else 0.002)
                sent += 1
                yield event({"choices": [{"delta": {"content": "word "}}]})
            usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
            used, sent = usage["total_tokens"], 0
            yield event({"choices": [], "usage": usage})
            yield b"data: [DONE]\n\n"
        finally:
            self.used += used + sent
            self.cut += sent > 0


def event(value: Any) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


def served_app(storage: str, *, keyed: bool) -> Any:
    """The app of one process: the model, the limiter around it, and the routes that say what both have counted."""
    model = Model()
    app: Any = Starlette(routes=[Route("/v1/chat/completions", model.complete, methods=["POST"])])
    if keyed:
        app = flexmw.Idempotency(storage=storage).asgi(app)
    limiter: Any = flexmw.RateLimit(
        tokens=f"{LIMIT}/day", token_cost="openai", usage="openai", storage=storage, store_timeout=SECONDS
    ).asgi(app)

    async def figures(request: Request) -> JSONResponse:
        decision = await limiter.explain(request.scope)
        counts = {"used": model.used, "cut": model.cut, "running": model.running}
        return JSONResponse({**counts, "charged": LIMIT - decision.remaining})

    outer = Starlette(routes=[Route("/figures", figures)])

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/figures":
            await outer(scope, receive, send)
            return
        model.running += 1
        try:
            await limiter(scope, receive, send)
        finally:
            model.running -= 1

    return serve


def serve(storage: str, *, keyed: bool) -> None:
    """Serve until this process is killed; write the port to standard output."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(served_app(storage, keyed=keyed), log_level="critical", lifespan="off")
    uvicorn.Server(config).run(sockets=[listener])


# --- the clients -----------------------------------------------------------------------------------------------------


@contextmanager
def processes(number: int, storage: str, *, keyed: bool) -> Generator[list[str]]:
    """The URLs of so many processes, which are killed when the block ends."""
    command = [sys.executable, "-m", "benchmarks.tokens", "--serve", storage, *(["--keyed"] if keyed else [])]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(number)]
    try:
        yield [f"http://127.0.0.1:{process.stdout.readline().strip()}" for process in started if process.stdout]
    finally:
        for process in started:
            process.kill()
            process.communicate()


async def run(urls: Sequence[str], *, streams: int, keyed: bool, is_shared: bool) -> Figures:
    """Stream from all processes, and compare what was used with what was charged.

    :param urls: where the processes serve.
    :param streams: how many completions are asked for; every fifth client leaves in the middle.
    :param keyed: requests have idempotency keys, so that the app goes on when the client has left.
    :param is_shared: the processes share a store; else each one counts for itself.
    """
    async with httpx.AsyncClient(timeout=SECONDS, limits=httpx.Limits(max_keepalive_connections=0)) as client:
        turns = asyncio.Semaphore(AT_ONCE)
        statuses = await asyncio.gather(
            *(_stream(client, urls[number % len(urls)], number, turns, keyed=keyed) for number in range(streams))
        )
        figures = [await _figures(client, url) for url in urls]
        charged = [(await _figures(client, url))["charged"] for url in urls]  # when the last one has settled too
    return Figures(
        streams,
        len(range(0, streams, 5)),
        sum(each["cut"] for each in figures),
        sum(status != 200 for status in statuses),
        sum(each["used"] for each in figures),
        charged[0] if is_shared else sum(charged),
    )


async def _stream(client: httpx.AsyncClient, url: str, number: int, turns: asyncio.Semaphore, *, keyed: bool) -> int:
    headers = KEY | ({"idempotency-key": f"key-{number}"} if keyed else {})
    message = {"role": "user", "content": "x" * 4 * (number % 50)}
    body: dict[str, Any] = {"model": "gpt-x", "stream": True, "max_tokens": 90, "messages": [message]}
    patience = random.randrange(1, PIECES) if number % 5 == 0 else None
    if not keyed and patience is not None:
        body["stop_after"] = patience
    async with turns, client.stream("POST", f"{url}/v1/chat/completions", json=body, headers=headers) as response:
        with contextlib.suppress(StopAsyncIteration):
            lines = response.aiter_lines()
            seen = 0
            while patience is None or seen < patience:
                seen += (await anext(lines)).startswith("data:")
        return response.status_code


async def _figures(client: httpx.AsyncClient, url: str) -> dict[str, int]:
    """What a process has counted, once no request is running there."""
    deadline = time.monotonic() + SECONDS
    while True:
        figures: dict[str, int] = (await client.get(f"{url}/figures", headers=KEY)).json()
        if not figures["running"]:
            return figures
        if time.monotonic() > deadline:
            raise TimeoutError(f"{url}: {figures['running']} requests do not end")
        await asyncio.sleep(0.02)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--serve", metavar="STORAGE", help=argparse.SUPPRESS)
    parser.add_argument("--keyed", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, keyed=options.keyed)
        return 0
    wrong = 0
    sys.stdout.write("| storage | keys | streams | clients left | cut | refused | used | charged | difference |\n")
    sys.stdout.write("|---|---|---|---|---|---|---|---|---|\n")
    with redis_server() as redis_url:
        for name, storage in (("memory", "memory://"), ("redis", redis_url)):
            for number, keyed in enumerate((False, True)):
                url = storage if storage == "memory://" else f"{storage}/{number}"
                with processes(options.processes, url, keyed=keyed) as urls:
                    is_shared = name == "redis"
                    figures = asyncio.run(run(urls, streams=options.streams, keyed=keyed, is_shared=is_shared))
                difference = figures.charged - figures.used
                wrong += bool(difference or figures.refused)
                cells = [name, "yes" if keyed else "no", *figures, difference]
                sys.stdout.write(f"| {' | '.join(map(str, cells))} |\n")
                sys.stdout.flush()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
