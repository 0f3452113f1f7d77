"""What telemetry costs: ratios of whole requests, in one process, side by side, without sockets.

Every round runs each variant once and counts its CPU time; a ratio is the median of the rounds' ratios, so that a busy
machine slows both sides of it. Run: ``python -m benchmarks.tagging``; with ``--check`` it fails where a ratio is above
its target.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")

from fastapi import FastAPI
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware as Contrib
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from starlette.applications import Starlette
from starlette.middleware.opentelemetry import OpenTelemetryMiddleware as Native
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from flexmw.envelope import Envelope
from flexmw.tagging import Tagging

ROUNDS = 31
CALLS = {"/ok": 400, "/sse": 60, "/missing": 200}


async def ok(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


async def sse(request: Request) -> StreamingResponse:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b"data: 1\n\n"

    return StreamingResponse(chunks(), media_type="text/event-stream")


ROUTES = [Route("/ok", ok), Route("/sse", sse)]


def fastapi(**telemetry: Any) -> FastAPI:
    app = FastAPI(telemetry=telemetry)  # type: ignore[arg-type]
    app.router.routes.extend(ROUTES)
    return app


def providers(sampled: bool = True) -> dict[str, Any]:
    tracer_provider = TracerProvider(shutdown_on_exit=False, **({} if sampled else {"sampler": ALWAYS_OFF}))
    tracer_provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    return {
        "tracer_provider": tracer_provider,
        "meter_provider": MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False),
        "logger_provider": LoggerProvider(shutdown_on_exit=False),
    }


class Nowhere(SpanExporter):
    """Takes spans and does nothing with them."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class Ratio(NamedTuple):
    what: str
    path: str
    with_it: Callable[[], Any]
    without: Callable[[], Any]
    target: float | None


def envelope(app: Any) -> Any:
    return Envelope().asgi(app)


def both(app: Any, **options: Any) -> Any:
    return Tagging(**options).asgi(Envelope().asgi(app))


def contrib(app: Any, on: dict[str, Any]) -> Any:
    two = {"tracer_provider": on["tracer_provider"], "meter_provider": on["meter_provider"]}
    return Contrib(app, exclude_spans=["send", "receive"], **two)


def native(app: Any, on: dict[str, Any]) -> Any:
    return Native(app, tracer_provider=on["tracer_provider"])


def ratios() -> list[Ratio]:
    star, on, off = Starlette(routes=ROUTES), providers(), providers(sampled=False)
    return [
        Ratio("no SDK: Tagging+Envelope / Envelope", "/ok", lambda: both(star), lambda: envelope(star), 1.05),
        Ratio("no SDK: Tagging+Envelope / Envelope", "/sse", lambda: both(star), lambda: envelope(star), 1.02),
        Ratio("no SDK: contrib / bare", "/ok", lambda: Contrib(star), lambda: star, None),
        Ratio("no SDK: Starlette native / bare", "/ok", lambda: Native(star), lambda: star, None),
        Ratio(
            "no SDK: FastAPI native / FastAPI with it off",
            "/ok",
            fastapi,
            lambda: fastapi(tracing=False, metrics=False, logs=False),
            None,
        ),
        *(
            Ratio(f"{name}: {host.__name__} with Tagging / without", path, with_it, without, target)
            for name, set_up, target in (("not sampled", off, 1.10), ("recording", on, 1.10))
            for host in (contrib, native)
            for path in ("/ok", "/missing")
            for with_it, without in [
                (
                    lambda host=host, set_up=set_up: host(both(star, **set_up), set_up),
                    lambda host=host, set_up=set_up: host(envelope(star), set_up),
                )
            ]
        ),
        Ratio(
            "recording: FastAPI native with Tagging / without",
            "/ok",
            lambda: both(fastapi(**on), **on),
            lambda: envelope(fastapi(**on)),
            1.10,
        ),
        Ratio(
            "recording: own server span / contrib",
            "/ok",
            lambda: both(star, server_span=True, **on),
            lambda: contrib(envelope(star), on),
            None,
        ),
    ]


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


async def spend(app: Any, path: str, calls: int) -> float:
    started = time.thread_time()
    for _ in range(calls):
        await app(scope(path), _receive, _send)
    return (time.thread_time() - started) / calls


async def measure(each: Ratio) -> tuple[float, float]:
    """The ratio, and the difference in seconds a request."""
    left, right, calls = each.with_it(), each.without(), CALLS[each.path]
    for app in (left, right):
        await spend(app, each.path, calls)
    found, added = [], []
    for turn in range(ROUNDS):
        pair = [(left, 0), (right, 1)] if turn % 2 else [(right, 1), (left, 0)]
        times = {side: await spend(app, each.path, calls) for app, side in pair}
        found.append(times[0] / times[1])
        added.append(times[0] - times[1])
    return statistics.median(found), statistics.median(added)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where a ratio is above its target")
    arguments = parser.parse_args()
    missed = 0
    for each in ratios():
        ratio, added = asyncio.run(measure(each))
        over = each.target is not None and ratio > each.target
        missed += over
        target = f"target {each.target:.2f}{' MISSED' if over else ''}" if each.target else ""
        print(f"{each.what:58} {each.path:9} x{ratio:5.2f}  {added * 1e6:+7.1f} us  {target}")
    return missed if arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
