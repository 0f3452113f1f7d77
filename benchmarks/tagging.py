"""What telemetry costs: ratios of whole requests and whole calls, in one process, side by side.

Every round runs both sides of a ratio once, in alternating order, and counts CPU time; a ratio is the median of the
rounds' ratios, printed with its quartiles. Rounds are short and many, so that a busy machine slows both sides of one
alike. The first line compares a thing with itself: what it differs from 1 is the error of all others.

A process for each side was tried, because both sides call the same functions with objects of different classes, and
Python specializes a function for one of them. In one process a side executes 0.4 to 0.9 % more instructions, with
Tagging and without it. The ratios of three runs of each kind differ by less than the runs do.

Requests to the server are made without sockets, calls of the client over loopback to a process of its own. An error
answer is an attribute set and a counter more, which the SDK takes its time for: it is held against a middleware that
does only these two calls. Beside Tagging stands a middleware by hand that asks the same of a response without an error
(:mod:`benchmarks.tagging_floor`). Run: ``python -m benchmarks.tagging``; ``--check`` fails where a ratio is above its
target; ``--only TEXT`` runs a part.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import os
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")

import httpx
import httpx2
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor, HTTPXClientInstrumentor
from starlette.applications import Starlette

import flexmw
from benchmarks.instrumented import (
    ROUTES,
    Contrib,
    Native,
    both,
    by_hand,
    by_hand_and_envelope,
    contrib,
    counted,
    envelope,
    fastapi,
    fastapi_around,
    native,
    nothing,
    providers,
    tagging,
    two,
)
from flexmw.tagging import Tagging

CALLS = {"/ok": 100, "/sse": 25, "/missing": 40, "call": 25}
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
INSTRUMENTORS: dict[Any, Any] = {httpx: HTTPXClientInstrumentor, httpx2: HTTPX2ClientInstrumentor}


class Ratio(NamedTuple):
    """``sides``: makers of what is run with the thing measured, and without it."""

    what: str
    path: str
    sides: tuple[Callable[[], Any], Callable[[], Any]]
    target: float | None = None


def requests(set_ups: dict[str, dict[str, Any]]) -> Iterator[Ratio]:
    """The server's side."""
    star = Starlette(routes=ROUTES)
    yield Ratio("the same twice", "/ok", (lambda: envelope(star), lambda: envelope(star)))
    for path, target in (("/ok", 1.05), ("/sse", 1.02)):
        yield Ratio("no SDK: Tagging+Envelope / Envelope", path, (lambda: both(star), lambda: envelope(star)), target)
    yield Ratio("no SDK: contrib / bare", "/ok", (lambda: Contrib(star), lambda: star))
    yield Ratio("no SDK: Starlette native / bare", "/ok", (lambda: Native(star), lambda: star))
    off = {"tracing": False, "metrics": False, "logs": False}
    yield Ratio("no SDK: FastAPI native / FastAPI with it off", "/ok", (fastapi, lambda: fastapi(**off)))
    for name, on in set_ups.items():
        for host in (contrib, native, fastapi_around):
            sides = (lambda host=host, on=on: host(both, on), lambda host=host, on=on: host(envelope, on))
            floor = (sides[0], lambda host=host, on=on: host(counted, on))
            where = f"{name}: {host.__name__.partition('_')[0]} with Tagging"
            alone = (lambda host=host, on=on: host(tagging, on), lambda host=host, on=on: host(nothing, on))
            yield Ratio(f"{where} alone / without", "/ok", alone, 1.10)
            yield Ratio(f"{where} / without", "/ok", sides, 1.10)
            where_by_hand = f"{name}: {host.__name__.partition('_')[0]} by hand"
            sides_by_hand = (lambda host=host, on=on: host(by_hand, on), alone[1])
            yield Ratio(f"{where_by_hand} alone / without", "/ok", sides_by_hand)
            sides_by_hand = (lambda host=host, on=on: host(by_hand_and_envelope, on), sides[1])
            yield Ratio(f"{where_by_hand} / without", "/ok", sides_by_hand)
            yield Ratio(f"{where} / without", "/missing", sides)
            yield Ratio(f"{where} / with the SDK calls alone", "/missing", floor, 1.10)
    on = set_ups["recording"]
    own = (lambda: both(star, server_span=True, **on), lambda: contrib(envelope, on))
    yield Ratio("recording: own server span / contrib", "/ok", own, 0.5)


def calls(set_ups: dict[str, dict[str, Any]]) -> Iterator[Ratio]:
    """The client's side."""
    for library, instrumentor in INSTRUMENTORS.items():

        def plain(on: dict[str, Any] | None = None, library: Any = library, instrumentor: Any = instrumentor) -> Any:
            client = library.Client(trust_env=False)
            if on is not None:
                instrumentor.instrument_client(client, **two(on))
            return client

        def tagged(on: dict[str, Any] | None = None, plain: Any = plain) -> Any:
            return flexmw.wrap_client(plain(on), Tagging(**(on or {})))

        name = library.__name__
        yield Ratio(f"no SDK: {name} with Tagging / without", "call", (tagged, plain), 1.10)
        yield Ratio(f"no SDK: {name} with contrib / without", "call", (lambda plain=plain: plain({}), plain))
        for set_up, on in set_ups.items():
            sides = (lambda on=on, tagged=tagged: tagged(on), lambda on=on, plain=plain: plain(on))
            yield Ratio(f"{set_up}: {name} and its instrumentor with Tagging / without", "call", sides, 1.10)


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Any) -> None:
    pass


def scope(path: str) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"user-agent", b"benchmark")],
        "client": ("127.0.0.1", 5000),
        "server": ("127.0.0.1", 80),
    }


async def serve(app: Any, path: str) -> float:
    """CPU seconds a request."""
    scopes = [scope(path) for _ in range(CALLS[path])]
    gc.collect()
    started = time.process_time()
    for each in scopes:
        await app(each, _receive, _send)
    return (time.process_time() - started) / len(scopes)


def calling(url: str) -> Callable[[Any, str], Coroutine[Any, Any, float]]:
    async def spend(client: Any, what: str) -> float:
        """CPU seconds a call."""
        gc.collect()
        started = time.process_time()
        for _ in range(CALLS[what]):
            client.get(url)
        return (time.process_time() - started) / CALLS[what]

    return spend


async def measure(
    each: Ratio, spend: Callable[[Any, str], Coroutine[Any, Any, float]], rounds: int
) -> tuple[list[float], float]:
    """The ratio's quartiles, and the difference in seconds."""
    left, right = (make() for make in each.sides)
    for side in (left, right) * 3:
        await spend(side, each.path)
    gc.collect()
    gc.freeze()
    found, added = [], []
    for turn in range(rounds):
        if turn % 2:
            with_it, without = await spend(left, each.path), await spend(right, each.path)
        else:
            without, with_it = await spend(right, each.path), await spend(left, each.path)
        found.append(with_it / without)
        added.append(with_it - without)
    gc.unfreeze()
    return statistics.quantiles(found, n=4), statistics.median(added)


@contextmanager
def quick_server() -> Iterator[str]:
    """A server in a process of its own, whose CPU time is not counted."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = multiprocessing.get_context("fork").Process(target=_answer, args=(listener,), daemon=True)
        process.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1/x"
        finally:
            process.terminate()
            process.join()


def _answer(listener: socket.socket) -> None:
    while True:
        threading.Thread(target=_keep_answering, args=(listener.accept()[0],), daemon=True).start()


def _keep_answering(connection: socket.socket) -> None:
    with connection, suppress(OSError):
        while connection.recv(65_536):
            connection.sendall(ANSWER)


def ratio_of(text: str, path: str, rounds: int) -> float:
    """One ratio of the server's side.

    :param text: the beginning of its line.
    """
    set_ups = {"not sampled": providers(sampled=False), "recording": providers()}
    (each,) = (each for each in requests(set_ups) if each.what.startswith(text) and each.path == path)
    return asyncio.run(measure(each, serve, rounds))[0][1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where a ratio is above its target")
    parser.add_argument("--rounds", type=int, default=151, help="rounds of each ratio")
    parser.add_argument("--only", default="", help="only ratios whose line has this text in it")
    arguments = parser.parse_args()
    missed = 0
    with quick_server() as url:
        set_ups = {"not sampled": providers(sampled=False), "recording": providers()}
        for each in (*requests(set_ups), *calls(set_ups)):
            if arguments.only not in f"{each.what} {each.path}":
                continue
            spend = calling(url) if each.path == "call" else serve
            (low, ratio, high), added = asyncio.run(measure(each, spend, arguments.rounds))
            over = each.target is not None and round(ratio, 2) > each.target
            missed += over
            target = f"target {each.target:.2f}{' MISSED' if over else ''}" if each.target else ""
            spread = f"{low:4.2f}..{high:4.2f}"
            print(f"{each.what:62} {each.path:9} x{ratio:5.2f}  {spread}  {added * 1e6:+7.1f} us  {target}", flush=True)
    return missed if arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
