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
from tests.tagging.apps import OFF, Contrib
from tests.tagging.sdk import Signals

pytestmark = pytest.mark.usefixtures("stable_conventions")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


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


async def _refuse(socket: WebSocket) -> None:
    await socket.close(1008)


async def _wait(socket: WebSocket) -> None:
    await socket.accept()
    await socket.receive_text()


async def _crash(socket: WebSocket) -> None:
    await socket.receive()
    raise ValueError("before accept")


ENDPOINTS = {"/greet": _greet, "/break": _break, "/refuse": _refuse, "/wait": _wait, "/crash": _crash}


def fastapi_sockets(telemetry: Any) -> FastAPI:
    app = FastAPI(telemetry=telemetry)
    for path, endpoint in ENDPOINTS.items():
        app.add_api_websocket_route(path, endpoint)
    return app


SOCKET_APPS: dict[str, Any] = {
    "FastAPI": lambda signals, wrap: wrap(fastapi_sockets(signals.options)),
    "contrib around": lambda signals, wrap: _contrib(signals, wrap(fastapi_sockets(OFF))),
    "contrib inside": lambda signals, wrap: wrap(_contrib(signals, fastapi_sockets(OFF))),
    "own": lambda signals, wrap: wrap(fastapi_sockets(OFF)),
}


def _contrib(signals: Signals, app: Any) -> Any:
    return Contrib(app, tracer_provider=signals.tracer_provider, exclude_spans=["send", "receive"])


@pytest.mark.anyio
@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize("setup", SOCKET_APPS)
async def test_the_facts_of_a_websocket_are_on_its_server_span_and_an_exception_is_recorded_once(
    setup: str, path: str, signals: Signals
) -> None:
    components = (
        Tagging(server_span=setup == "own", **signals.options),
        flexmw.Envelope(),
        flexmw.RateLimit("9/minute"),
    )
    app = SOCKET_APPS[setup](signals, lambda app: flexmw.wrap_app(app, *components))
    await websocket(app, path)
    span = signals.server_span
    attributes = dict(span.attributes or {})
    assert attributes["flexmw.rate_limiting.result"] == "acquired"
    crashes = path in ("/break", "/crash")
    if crashes:
        assert attributes["flexmw.error.code"] == "internal_error"
    if (setup, path) == ("contrib inside", "/wait"):
        return  # contrib says that a client that leaves is an error
    assert [name for _, name in signals.exceptions] == ["ValueError"] * crashes
    assert (span.status.status_code is StatusCode.ERROR) is crashes
    for inner in signals.of_kind(SpanKind.INTERNAL):
        assert not [name for name in inner.attributes or () if name.startswith("flexmw.")]
    if setup == "own":
        assert span.name == f"WS {path}"
        assert signals.points("http.server.request.duration") == []


@pytest.mark.anyio
@pytest.mark.parametrize("setup", SOCKET_APPS)
async def test_a_refused_websocket_has_one_server_span(setup: str, signals: Signals) -> None:
    components = (
        Tagging(server_span=setup == "own", **signals.options),
        flexmw.Envelope(),
        flexmw.RateLimit("1/minute"),
    )
    app = SOCKET_APPS[setup](signals, lambda app: flexmw.wrap_app(app, *components))
    for _ in range(2):
        await websocket(app, "/greet")
    results = [(span.attributes or {})["flexmw.rate_limiting.result"] for span in signals.of_kind(SpanKind.SERVER)]
    assert results == ["acquired", "rejected"]


async def _raise_kind(socket: WebSocket) -> None:
    await socket.accept()
    raise flexmw.ModelNotFound("m")


@pytest.mark.anyio
@pytest.mark.parametrize("setup", SOCKET_APPS)
async def test_a_kind_raised_after_accepting_is_on_the_server_span_and_counted(
    setup: str, signals: Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENDPOINTS, "/kind", _raise_kind)
    components = (Tagging(server_span=setup == "own", **signals.options), flexmw.Envelope())
    await websocket(SOCKET_APPS[setup](signals, lambda app: flexmw.wrap_app(app, *components)), "/kind")
    attributes = dict(signals.server_span.attributes or {})
    assert attributes["flexmw.error.code"] == "model_not_found"
    ((counted, value),) = signals.points("flexmw.server.error_responses")
    assert (counted["flexmw.error.code"], value) == ("model_not_found", 1)
    assert signals.exceptions == []
