"""One small application, instrumented in every way that Tagging supports, and a client that speaks ASGI."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import FastAPI
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware as Contrib
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.opentelemetry import OpenTelemetryMiddleware as Native
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

import flexmw
from tests.tagging.sdk import Signals
from tests.waiting import LONGEST_WAIT

Wrap = Callable[[Any], Any]


class Handled(Exception):
    """Turned into a 500 by a handler of the application."""


async def ok(request: Request) -> JSONResponse:
    return JSONResponse({})


async def missing(request: Request) -> JSONResponse:
    raise HTTPException(404)


async def offline(request: Request) -> JSONResponse:
    raise HTTPException(503)


async def model(request: Request) -> JSONResponse:
    raise flexmw.ModelNotFound("foo")


async def upstream(request: Request) -> JSONResponse:
    raise flexmw.UpstreamTimeout from TimeoutError("upstream")


async def broken(request: Request) -> JSONResponse:
    raise ValueError("broken")


async def handled(request: Request) -> JSONResponse:
    raise Handled("handled")


async def stream(request: Request) -> StreamingResponse:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"data: 1\n\n"

    return StreamingResponse(chunks(), media_type="text/event-stream")


async def torn(request: Request) -> StreamingResponse:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"data: 1\n\n"
        raise RuntimeError("torn")

    return StreamingResponse(chunks(), media_type="text/plain")


async def hanging(request: Request) -> JSONResponse:
    await asyncio.Event().wait()
    raise AssertionError


def on_handled(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": "handled"}, 500)


ROUTES = {
    each.__name__: each for each in (ok, missing, offline, model, upstream, broken, handled, stream, torn, hanging)
}


def starlette_app(**options: Any) -> Starlette:
    routes = [Route(f"/{name}", endpoint) for name, endpoint in ROUTES.items()]
    return Starlette(routes=routes, exception_handlers={Handled: on_handled}, **options)


def fastapi_app(telemetry: dict[str, Any]) -> FastAPI:
    app = FastAPI(telemetry=telemetry, exception_handlers={Handled: on_handled})  # type: ignore[arg-type]
    for name, endpoint in ROUTES.items():
        app.add_route(f"/{name}", endpoint)
    return app


OFF = {"tracing": False, "metrics": False, "logs": False}


def nothing(signals: Signals, wrap: Wrap) -> Any:
    """No instrument at all."""
    return wrap(starlette_app())


def contrib_outside(signals: Signals, wrap: Wrap) -> Any:
    """Contrib's ASGI middleware around everything."""
    return Contrib(wrap(starlette_app()), **_two(signals))


def contrib_inside(signals: Signals, wrap: Wrap) -> Any:
    """Contrib's ASGI middleware around the application, flexmw around both."""
    return wrap(Contrib(starlette_app(), **_two(signals)))


def fastapi_contrib(signals: Signals, wrap: Wrap) -> Any:
    app = fastapi_app(OFF)
    FastAPIInstrumentor.instrument_app(app, **_two(signals))
    return wrap(app)


def fastapi_native(signals: Signals, wrap: Wrap) -> Any:
    return wrap(fastapi_app(signals.options))


def fastapi_native_traces(signals: Signals, wrap: Wrap) -> Any:
    """FastAPI's own spans without its logs: it leaves exceptions to others."""
    return wrap(fastapi_app({**signals.options, "logs": False}))


def fastapi_native_outside(signals: Signals, wrap: Wrap) -> Any:
    """FastAPI's own spans, flexmw added with ``add_middleware``."""
    app = fastapi_app(signals.options)
    app.add_middleware(wrap)
    return app


def starlette_native(signals: Signals, wrap: Wrap) -> Any:
    app = starlette_app()
    app.add_middleware(Native, tracer_provider=signals.tracer_provider)
    return wrap(app)


def starlette_native_outside(signals: Signals, wrap: Wrap) -> Any:
    """Starlette's own spans around everything."""
    return Native(wrap(starlette_app()), tracer_provider=signals.tracer_provider)


APPS: dict[str, Callable[[Signals, Wrap], Any]] = {
    each.__name__: each
    for each in (
        nothing,
        contrib_outside,
        contrib_inside,
        fastapi_contrib,
        fastapi_native,
        fastapi_native_traces,
        fastapi_native_outside,
        starlette_native,
        starlette_native_outside,
    )
}


def _two(signals: Signals) -> dict[str, Any]:
    return {"tracer_provider": signals.tracer_provider, "meter_provider": signals.meter_provider}


class Received:
    """What an application has sent for one request, and what it has raised."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.error: BaseException | None = None

    @property
    def status(self) -> int | None:
        return next((m["status"] for m in self.messages if m["type"] == "http.response.start"), None)

    @property
    def body(self) -> bytes:
        return b"".join(m.get("body", b"") for m in self.messages if m["type"] == "http.response.body")


async def call(
    app: Any,
    path: str,
    *,
    method: str = "GET",
    headers: tuple[tuple[str, str], ...] = (),
    query: str = "",
    body: bytes = b"",
    fail_send_at: int | None = None,
    cancel: bool = False,
    host: bool = True,
) -> Received:
    """One request. ``fail_send_at``: the client is gone before that message; ``cancel``: the task is cancelled."""
    received = Received()
    asked = asyncio.Event()
    over = asyncio.Event()
    first = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        asked.set()
        if first:
            return first.pop()
        await over.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if fail_send_at is not None and len(received.messages) >= fail_send_at:
            raise OSError("gone")
        received.messages.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [
            *([(b"host", b"127.0.0.1")] if host else []),
            *((name.lower().encode(), value.encode()) for name, value in headers),
        ],
        "client": ("127.0.0.1", 5000),
        "server": ("127.0.0.1", 80),
        "extensions": {},
        "state": {},
    }
    task = asyncio.ensure_future(app(scope, receive, send))
    if cancel:
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await asyncio.wait_for(asyncio.shield(task), LONGEST_WAIT)
    over.set()
    if task.cancelled():
        received.error = asyncio.CancelledError()
    else:
        received.error = task.exception()
    return received
