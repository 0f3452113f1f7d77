"""What the Envelope costs where nothing fails: beside nothing, a no-op ASGI wrapper and an empty BaseHTTPMiddleware.

    python -m benchmarks.envelope             # some ten seconds, no sockets; --check fails where a target is missed

Every round runs each variant once, in turn, and counts its own CPU time; a figure is the median of the rounds'
differences, so that a busy machine slows all sides alike.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from flexmw.envelope import Envelope

ROUNDS: Final = 41
CHUNKS: Final = 500

JSON: Final = [(b"content-type", b"application/json"), (b"content-length", b"13")]
EVENTS: Final = [(b"content-type", b"text/event-stream; charset=utf-8")]
EVENT: Final = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'


def scripted(*messages: dict[str, Any]) -> Any:
    """An app that does nothing but send."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return app


def start(headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": 200, "headers": headers}


async def ok(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


BARE: Final = scripted(start(JSON), {"type": "http.response.body", "body": b'{"fine":true}'})
ROUTE: Final = Starlette(routes=[Route("/", ok)])
STREAM: Final = scripted(
    start(EVENTS),
    *[{"type": "http.response.body", "body": EVENT, "more_body": True}] * CHUNKS,
    {"type": "http.response.body", "body": b"data: [DONE]\n\n"},
)


def nothing(app: Any) -> Any:
    return app


def noop(app: Any) -> Any:
    """The least that a wrapper can be: it looks at what is sent, as any that is of use must."""

    async def wrapper(scope: Any, receive: Any, send: Any) -> None:
        async def passing(message: Any) -> None:
            await send(message)

        await app(scope, receive, passing)

    return wrapper


def base_http(app: Any) -> Any:
    async def dispatch(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    return BaseHTTPMiddleware(app, dispatch)


def envelope(app: Any) -> Any:
    return Envelope().asgi(app)


VARIANTS: Final[dict[str, Callable[[Any], Any]]] = {
    "nothing": nothing,
    "no-op wrapper": noop,
    "Envelope": envelope,
    "BaseHTTPMiddleware": base_http,
}


class Load(NamedTuple):
    what: str
    app: Any
    calls: int
    per: int
    target: float | None = None
    says: str = ""


LOADS: Final = [
    Load("a 200 of an app that only sends", BARE, 400, 1),
    Load("a 200 of a Starlette route", ROUTE, 200, 1, 3.0, "at most +3 us at a 10 us route"),
    Load("a chunk of an event stream", STREAM, 4, CHUNKS, 2.0, "less than +2 us a chunk"),
]


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Any) -> None:
    pass


async def spend(app: Any, load: Load) -> float:
    """Microseconds of a request, or of a chunk."""
    began = time.thread_time()
    for _ in range(load.calls):
        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [(b"host", b"h")]}
        await app(scope, _receive, _send)
    return (time.thread_time() - began) / load.calls / load.per * 1e6


async def measure(load: Load) -> dict[str, list[float]]:
    apps = [(name, variant(load.app)) for name, variant in VARIANTS.items()]
    for _, app in apps:
        await spend(app, load)
    rounds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for turn in range(ROUNDS):
        at = turn % len(apps)
        for name, app in apps[at:] + apps[:at]:
            rounds[name].append(await spend(app, load))
    return rounds


def added(rounds: dict[str, list[float]], name: str, to: str) -> float:
    return statistics.median(one - other for one, other in zip(rounds[name], rounds[to], strict=True))


def report(load: Load, rounds: dict[str, list[float]]) -> bool:
    """Print one load. Whether the target holds."""
    print(f"{load.what}: {statistics.median(rounds['nothing']):.2f} us with nothing around it")
    print(f"  {'':20} {'added':>10} {'x nothing':>10} {'added / BaseHTTPMiddleware':>28}")
    base = added(rounds, "BaseHTTPMiddleware", "nothing")
    for name in list(VARIANTS)[1:]:
        more = added(rounds, name, "nothing")
        pairs = zip(rounds[name], rounds["nothing"], strict=True)
        ratio = statistics.median(one / other for one, other in pairs)
        print(f"  {name:20} {more:+7.2f} us {ratio:10.2f} {more / base:28.3f}")
    found = added(rounds, "Envelope", "no-op wrapper")
    holds = load.target is None or found <= load.target
    target = f", target {load.says}: {'holds' if holds else 'MISSED'}" if load.target else ""
    print(f"  Envelope over the no-op wrapper: {found:+.2f} us{target}\n")
    return holds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where a target is missed")
    arguments = parser.parse_args()
    missed = [load.what for load in LOADS if not report(load, asyncio.run(measure(load)))]
    return len(missed) if arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
