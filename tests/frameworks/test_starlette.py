"""An installed FastAPI app in the hands of its users: what they add later, their tests, command line, instruments."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, WebSocket
from fastapi.testclient import TestClient
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse
from starlette.websockets import WebSocketDisconnect

import flexmw
from tests.frameworks.apps import fastapi, starlette
from tests.servers import fastapi_server
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
OFF: Any = {"tracing": False, "metrics": False, "logs": False}


class Teapot:
    """Middleware of the app's own that responds to everything."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await JSONResponse({"detail": "Short and stout."}, 418)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


@pytest.mark.parametrize("make", [starlette, fastapi])
def test_middleware_that_is_added_later_is_inside(make: Any) -> None:
    app = flexmw.install(make(), flexmw.Envelope(), flexmw.RateLimit("2/hour"))
    app.add_middleware(GZipMiddleware)
    app.add_middleware(CORSMiddleware, allow_origins=["https://ui.example"])
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["testserver"])
    client = TestClient(app)
    refused = client.get("/ok", headers={"host": "evil.example"})
    assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request_error")
    assert client.get("/ok").status_code == 200
    limited = client.get("/ok", headers={"origin": "https://ui.example"})
    assert (limited.status_code, limited.headers["access-control-allow-origin"]) == (429, "https://ui.example")
    app = flexmw.install(make())
    app.add_middleware(Teapot)
    assert TestClient(app).get("/ok").json()["error"]["message"] == "Short and stout."


@pytest.mark.parametrize("make", [starlette, fastapi])
def test_the_handler_of_a_crash_is_inside_and_the_crash_is_raised(make: Any) -> None:
    async def own(request: Any, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "Mine.", "code": "mine"}, 500)

    app = flexmw.install(make())
    app.add_exception_handler(Exception, own)
    response = TestClient(app, raise_server_exceptions=False).get("/crash")
    assert response.json()["error"]["type"] == "server_error"
    with pytest.raises(ValueError, match="hidden"):
        TestClient(app).get("/crash")


def test_a_crash_of_a_component_is_sent_although_the_app_handles_crashes() -> None:
    def broken(caller: Any) -> Any:
        raise LookupError("no database")

    async def own(request: Any, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "Mine."}, 500)

    app = flexmw.install(starlette(), flexmw.Envelope(), flexmw.RateLimit(limit=broken))
    app.add_exception_handler(Exception, own)
    response = TestClient(app, raise_server_exceptions=False).get("/ok")
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")


def test_the_tests_of_an_app_go_on_working() -> None:
    started: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        started.append("up")
        yield {"kept": "state"}
        started.append("down")

    def user() -> str:
        raise flexmw.InvalidAPIKey()

    app = FastAPI(lifespan=lifespan)

    @app.get("/me", name="me")
    def me(name: str = Depends(user)) -> str:
        return name

    @app.websocket("/ws")
    async def ws(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(websocket.state.kept)
        raise flexmw.InsufficientCredit()

    flexmw.install(app, flexmw.Envelope(), flexmw.Idempotency())
    with TestClient(app) as client:
        assert client.get("/me").status_code == 401
        app.dependency_overrides[user] = lambda: "fred"
        assert client.get(app.url_path_for("me")).json() == "fred"
        assert client.get("/openapi.json").json()["paths"]["/me"]
        with client.websocket_connect("/ws") as socket:
            assert socket.receive_text() == "state"
            with pytest.raises(WebSocketDisconnect) as closed:
                socket.receive_text()
        assert closed.value.code == 1008
    assert started == ["up", "down"]


def test_components_are_installed_in_an_app_that_runs() -> None:
    app = starlette()
    client = TestClient(app)
    assert client.get("/nowhere").text == "Not Found"
    flexmw.install(app)
    assert client.get("/nowhere").json()["error"]["code"] == "unknown_url"


@pytest.fixture
def spans() -> Iterator[tuple[TracerProvider, InMemorySpanExporter]]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider, exporter
    provider.shutdown()


@pytest.mark.parametrize("order", ["instrumented first", "installed first"])
def test_an_instrumentor_goes_on_working_before_and_after(order: str, spans: Any) -> None:
    provider, exporter = spans
    app = FastAPI(telemetry=OFF)

    @app.get("/ok")
    def ok() -> str:
        return "fine"

    def instrument() -> None:
        FastAPIInstrumentor.instrument_app(app, tracer_provider=provider, exclude_spans=["send", "receive"])

    components = (flexmw.Tagging(tracer_provider=provider), flexmw.Envelope(), flexmw.RateLimit("1/hour"))
    if order == "instrumented first":
        instrument()
    flexmw.install(app, *components)
    if order == "installed first":
        instrument()
    client = TestClient(app)
    assert [client.get(path).status_code for path in ("/ok", "/ok", "/nowhere")] == [200, 429, 429]
    names = [span.name for span in exporter.get_finished_spans()]
    assert names[0] == "GET /ok"
    assert len(names) == 3, "one server span for each request, refused or not"
    FastAPIInstrumentor.uninstrument_app(app)
    exporter.clear()
    assert client.get("/ok").status_code == 429, "what is installed stays"


def test_a_span_of_fastapi_covers_what_the_components_refuse(spans: Any) -> None:
    provider, exporter = spans
    app = FastAPI(telemetry={"tracer_provider": provider, "metrics": False, "logs": False})
    flexmw.install(app, flexmw.Tagging(tracer_provider=provider), flexmw.Envelope(), flexmw.RateLimit("1/hour"))
    client = TestClient(app)
    assert [client.get("/nowhere").status_code for _ in range(2)] == [404, 429]
    servers = [span for span in exporter.get_finished_spans() if span.kind.name == "SERVER"]
    assert [span.attributes["flexmw.error.code"] for span in servers] == ["unknown_url", "rate_limit_exceeded"]


def test_fastapi_run_serves_the_components(tmp_path: Path) -> None:
    module = tmp_path / "main.py"
    module.write_text(
        "import flexmw\nfrom fastapi import FastAPI\n\n"
        'app = flexmw.install(FastAPI(), flexmw.Envelope(), flexmw.RateLimit("1/hour"))\n',
        encoding="utf-8",
    )
    with (
        fastapi_server(module, tmp_path) as served,
        httpx.Client(base_url=served.url, timeout=LONGEST_WAIT, trust_env=False) as client,
    ):
        codes = [client.get("/nowhere").json()["error"]["code"] for _ in range(2)]
    assert codes == ["unknown_url", "rate_limit_exceeded"]


def test_a_subclass_of_the_framework_is_one_of_its_apps() -> None:
    class Shop(Starlette):
        pass

    app: Shop = flexmw.install(Shop())
    assert TestClient(app).get("/nowhere").json()["error"]["code"] == "unknown_url"
