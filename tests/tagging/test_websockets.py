"""Websockets: how they end, and their exceptions."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

import flexmw
from flexmw.tagging import Tagging
from tests.tagging.apps import Contrib
from tests.tagging.sdk import Signals


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _stable_conventions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http")


async def websocket(app: Any, path: str) -> list[Any]:
    sent: list[Any] = []
    incoming = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]

    async def receive() -> Any:
        return incoming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "websocket",
        "asgi": {"version": "3.0"},
        "scheme": "ws",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1")],
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
    }
    try:
        await app(scope, receive, send)
    except Exception as error:
        sent.append(error)
    return sent


async def _greet(socket: WebSocket) -> None:
    await socket.accept()
    await socket.close()


async def _break(socket: WebSocket) -> None:
    await socket.accept()
    raise ValueError("broken")


SOCKETS = Starlette(routes=[WebSocketRoute("/greet", _greet), WebSocketRoute("/break", _break)])


@pytest.mark.anyio
async def test_a_websocket_that_breaks_is_an_error_and_recorded_once(signals: Signals) -> None:
    app = Contrib(
        flexmw.wrap_app(SOCKETS, Tagging(**signals.options)),
        tracer_provider=signals.tracer_provider,
        exclude_spans=["send", "receive"],
    )
    await websocket(app, "/greet")
    await websocket(app, "/break")
    good, bad = signals.of_kind(SpanKind.SERVER)
    assert good.status.status_code is StatusCode.UNSET
    assert bad.status.status_code is StatusCode.ERROR
    assert (bad.attributes or {})["error.type"] == "ValueError"
    assert [name for _, name in signals.exceptions] == ["ValueError"]


@pytest.mark.anyio
@pytest.mark.parametrize("logs", [True, False], ids=["logs", "traces-only"])
async def test_a_websocket_of_fastapi_that_breaks_is_recorded_once(logs: bool) -> None:
    with Signals(logs=logs) as signals:
        app = FastAPI(telemetry=signals.options)  # type: ignore[arg-type]
        app.add_api_websocket_route("/break", _break)
        await websocket(flexmw.wrap_app(app, Tagging(**signals.options)), "/break")
        assert signals.server_span.status.status_code is StatusCode.ERROR
        assert signals.exceptions == [("log" if logs else "span", "ValueError")]
