"""What :mod:`benchmarks.tagging` measures: one small application, and the ways in which it is instrumented."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from fastapi import FastAPI
from opentelemetry import trace
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

from benchmarks.tagging_floor import ByHand
from flexmw.envelope import Envelope
from flexmw.tagging import Tagging

__all__ = [
    "ROUTES",
    "Contrib",
    "Native",
    "both",
    "by_hand",
    "by_hand_and_envelope",
    "contrib",
    "counted",
    "envelope",
    "fastapi",
    "fastapi_around",
    "native",
    "nothing",
    "providers",
    "tagging",
    "two",
]

SAID = {"flexmw.error.type": "a", "flexmw.error.code": "b", "flexmw.error.source": "c"}


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


class Nowhere(SpanExporter):
    """Takes spans and does nothing with them."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def providers(sampled: bool = True) -> dict[str, Any]:
    tracer_provider = TracerProvider(shutdown_on_exit=False, **({} if sampled else {"sampler": ALWAYS_OFF}))
    tracer_provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    return {
        "tracer_provider": tracer_provider,
        "meter_provider": MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False),
        "logger_provider": LoggerProvider(shutdown_on_exit=False),
    }


def two(on: dict[str, Any]) -> dict[str, Any]:
    return {name: on[name] for name in ("tracer_provider", "meter_provider") if name in on}


def envelope(app: Any, **_: Any) -> Any:
    return Envelope().asgi(app)


def both(app: Any, **options: Any) -> Any:
    return Tagging(**options).asgi(Envelope().asgi(app))


def tagging(app: Any, **options: Any) -> Any:
    return Tagging(**options).asgi(app)


def nothing(app: Any, **_: Any) -> Any:
    return app


class Counted:
    """The least that tells of an error: three attributes on the span, and one more in a counter."""

    def __init__(self, app: Any, meter_provider: Any) -> None:
        self.app = app
        self.counter = meter_provider.get_meter("benchmark").create_counter("errors")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def counting(message: Any) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                span = trace.get_current_span()
                if span.is_recording():
                    span.set_attributes(SAID)
                self.counter.add(1, {**SAID, "http.response.status_code": message["status"]})
            await send(message)

        await self.app(scope, receive, counting)


def by_hand(app: Any, **on: Any) -> Any:
    return ByHand(app, on["meter_provider"])


def by_hand_and_envelope(app: Any, **on: Any) -> Any:
    return ByHand(Envelope().asgi(app), on["meter_provider"])


def counted(app: Any, **on: Any) -> Any:
    return Counted(Envelope().asgi(app), on["meter_provider"])


Wrap = Callable[..., Any]


def contrib(wrap: Wrap, on: dict[str, Any]) -> Any:
    return Contrib(wrap(Starlette(routes=ROUTES), **on), exclude_spans=["send", "receive"], **two(on))


def native(wrap: Wrap, on: dict[str, Any]) -> Any:
    return Native(wrap(Starlette(routes=ROUTES), **on), **two(on))


def fastapi_around(wrap: Wrap, on: dict[str, Any]) -> Any:
    """FastAPI's own span is inside."""
    return wrap(fastapi(**on), **on)
