"""Clients that leave: what the outcome says, and whether the span is an error."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry.trace import StatusCode
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from flexmw.envelope import Envelope
from flexmw.tagging import Tagging
from tests.tagging.apps import OFF, Contrib, FastAPI, Native
from tests.tagging.sdk import Signals
from tests.waiting import LONGEST_WAIT

pytestmark = [pytest.mark.usefixtures("stable_conventions"), pytest.mark.anyio]

UNSET, ERROR = StatusCode.UNSET, StatusCode.ERROR


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def _endless(request: Request) -> StreamingResponse:
    async def chunks() -> Any:
        while True:
            yield b"data: 1\n\n"
            await asyncio.sleep(0)

    return StreamingResponse(chunks(), media_type="text/event-stream")


async def _polite(scope: Any, receive: Any, send: Any) -> None:
    """An app that looks for the disconnect itself, and ends its response in order."""
    await receive()
    start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
    await send(start)
    await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass
    await send({"type": "http.response.body", "body": b""})


def _fastapi(signals: Signals) -> Any:
    app = FastAPI(telemetry=signals.options)  # type: ignore[arg-type]
    app.add_route("/", _endless)
    return app


def _fastapi_with_middleware(signals: Signals) -> Any:
    async def pass_on(request: Request, call_next: Any) -> Any:
        return await call_next(request)

    app = _fastapi(signals)
    app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    return app


STARLETTE = Starlette(routes=[Route("/", _endless)])

APPS: dict[str, Any] = {
    "FastAPI": (lambda signals, wrap: wrap(_fastapi(signals)), ERROR),
    "FastAPI with a middleware": (lambda signals, wrap: wrap(_fastapi_with_middleware(signals)), UNSET),
    "contrib around": (lambda signals, wrap: _contrib(signals, wrap(STARLETTE)), UNSET),
    "contrib around a polite app": (lambda signals, wrap: _contrib(signals, wrap(_polite)), UNSET),
    "contrib inside": (lambda signals, wrap: wrap(_contrib(signals, STARLETTE)), UNSET),
    "Starlette's around": (lambda signals, wrap: _native(signals, wrap(STARLETTE)), UNSET),
    "Starlette's inside": (lambda signals, wrap: wrap(_native(signals, _polite)), UNSET),
}
"""An app whose client leaves, and the status that its instrument gives the span without flexmw."""


def _contrib(signals: Signals, app: Any) -> Any:
    return Contrib(app, tracer_provider=signals.tracer_provider, exclude_spans=["send", "receive"])


def _native(signals: Signals, app: Any) -> Any:
    return Native(app, tracer_provider=signals.tracer_provider)


async def leave(app: Any) -> None:
    """One request whose client leaves after the first chunk. The server tells the app by ``receive`` alone."""
    gone = asyncio.Event()
    first = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if first:
            return first.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body" and message.get("body"):
            gone.set()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1")],
        "client": ("127.0.0.1", 5000),
        "server": ("127.0.0.1", 80),
    }
    await asyncio.wait_for(app(scope, receive, send), LONGEST_WAIT)


@pytest.mark.parametrize("mode", ["host", "unset", "error"])
@pytest.mark.parametrize("envelope", [True, False], ids=["envelope", "bare"])
@pytest.mark.parametrize("setup", APPS)
async def test_a_reader_who_leaves_has_disconnected_whoever_ends_the_response(
    setup: str, envelope: bool, mode: Any, signals: Signals
) -> None:
    make, host = APPS[setup]
    tagging = Tagging(on_disconnect=mode, **signals.options)
    await leave(make(signals, lambda app: tagging.asgi(Envelope().asgi(app) if envelope else app)))
    span = signals.server_span
    attributes = dict(span.attributes or {})
    assert attributes["flexmw.response.outcome"] == "client_disconnected"
    assert span.status.status_code is {"host": host, "unset": UNSET, "error": ERROR}[mode]
    assert ("error.type" in attributes) is (span.status.status_code is ERROR)


async def test_a_span_of_flexmws_own_follows_the_conventions_unless_told_otherwise(signals: Signals) -> None:
    app = FastAPI(telemetry=OFF)  # type: ignore[arg-type]
    app.add_route("/", _endless)
    for mode in ("host", "unset"):
        await leave(Tagging(server_span=True, on_disconnect=mode, **signals.options).asgi(app))  # type: ignore[arg-type]
    assert [span.status.status_code for span in signals.spans] == [ERROR, UNSET]
    assert [(span.attributes or {}).get("error.type") for span in signals.spans] == ["client_disconnected", None]
