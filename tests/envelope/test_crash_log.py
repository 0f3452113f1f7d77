"""A crash that the app responds to is logged once: by its server, by its framework, or by Envelope."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

import flexmw
from flexmw.envelope import crash_log
from flexmw.kit.log_limit import LogLimit
from flexmw.testing import FakeClock
from tests.hosts.apps import HOSTS
from tests.servers import ASGIApp, hypercorn_server
from tests.waiting import LONGEST_WAIT

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

TOKEN = "token-of-the-caller-1234"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def fresh_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash_log, "_LIMIT", LogLimit(burst=10, per_second=1.0, monotonic=time.monotonic))


def app_of(error: Exception | None, *, status: int = 500, body: Any = "oops") -> ASGIApp:
    """An app whose handler raises ``error``, and whose error handler responds to it."""

    async def handler(request: Request) -> PlainTextResponse:
        if error is not None:
            raise error
        return PlainTextResponse(str(body), status)

    async def respond(request: Request, caught: Exception) -> JSONResponse:
        return JSONResponse(body, status)

    handlers: Any = {} if error is None else {type(error): respond}
    return flexmw.Envelope().asgi(Starlette(routes=[Route("/crash", handler)], exception_handlers=handlers))


async def one_event(scope: Any, receive: Any, send: Any) -> None:
    """An app that returns within its stream, as Quart does when a response takes longer than RESPONSE_TIMEOUT."""
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})


async def get(app: ASGIApp, path: str = "/crash") -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        return await client.get(path, headers={"authorization": f"Bearer {TOKEN}"})


def lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("name", HOSTS)
async def test_every_framework_leaves_one_line_about_a_crash(name: str, caplog: pytest.LogCaptureFixture) -> None:
    assert (await get(flexmw.Envelope(max_wait=0.5).asgi(HOSTS[name]()))).status_code == 500
    (line,) = lines(caplog)
    assert (line.name == "flexmw.envelope") is (name not in crash_log.LOGGING_FRAMEWORKS)
    assert "Traceback" in caplog.text
    assert "ValueError" in caplog.text


async def test_a_crash_that_the_app_raises_is_left_to_the_server(caplog: pytest.LogCaptureFixture) -> None:
    async def crash(request: Request) -> PlainTextResponse:
        raise ValueError("crash")

    app = flexmw.Envelope().asgi(Starlette(routes=[Route("/crash", crash)]))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        with pytest.raises(ValueError, match="crash"):
            await client.get("/crash")
    assert lines(caplog) == []


async def awaits_a_cancelled_task(scope: Any, receive: Any, send: Any) -> None:
    task = asyncio.create_task(asyncio.sleep(60))
    task.cancel()
    await task


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_cancellation_that_nobody_asked_for_is_logged_once(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    async def send(message: Any) -> None:
        pass

    async def receive() -> Any:
        return {"type": "http.request"} if kind == "http" else {"type": "websocket.connect"}

    app = flexmw.Envelope().asgi(flexmw.Envelope().asgi(awaits_a_cancelled_task))
    scope = {"type": kind, "path": "/crash", "headers": [], "query_string": b"", "extensions": {}}
    with pytest.raises(asyncio.CancelledError):
        await app(scope, receive, send)
    (line,) = lines(caplog)
    assert line.name == "flexmw.envelope"
    assert "/crash: the app has raised CancelledError" in line.getMessage()
    assert "awaits_a_cancelled_task" in caplog.text


async def test_a_request_that_is_cancelled_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def waits(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        pass

    scope = {"type": "http", "method": "GET", "path": "/crash", "headers": [], "query_string": b""}
    never: Any = anyio.sleep_forever
    request = asyncio.ensure_future(flexmw.Envelope().asgi(waits)(scope, never, send))
    await asyncio.sleep(0)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert lines(caplog) == []


def test_hypercorn_leaves_the_line_about_a_cancellation_to_envelope(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request) -> PlainTextResponse:
        await awaits_a_cancelled_task(request.scope, request.receive, None)
        return PlainTextResponse("")

    with hypercorn_server(flexmw.Envelope().asgi(Starlette(routes=[Route("/crash", handler)]))) as served:
        assert httpx.get(f"{served.url}/crash", timeout=LONGEST_WAIT).json()["error"]["code"] == "internal_error"
    (line,) = lines(caplog)
    assert line.getMessage().startswith("GET /crash: the app has raised CancelledError")


async def test_a_crash_that_an_error_handler_hides_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    error = KeyError("model")
    assert (await get(app_of(error))).status_code == 500
    (line,) = lines(caplog)
    assert (line.name, line.levelname) == ("flexmw.envelope", "ERROR")
    assert line.exc_info is not None
    assert line.exc_info[1] is error
    assert line.getMessage().startswith("GET /crash: ")


@pytest.mark.parametrize(
    "app",
    [
        app_of(KeyError("x"), status=404),
        app_of(None),
        app_of(KeyError("x"), body={"error": {"message": "m", "type": "t", "param": None, "code": "c"}}),
        app_of(flexmw.UpstreamTimeout()),
    ],
    ids=["a client error", "no exception", "the app's own error object", "a kind"],
)
async def test_what_is_no_crash_is_not_logged(app: ASGIApp, caplog: pytest.LogCaptureFixture) -> None:
    assert (await get(app)).status_code >= 400
    assert lines(caplog) == []


async def test_no_secret_of_the_request_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    await get(app_of(KeyError(f"no user {TOKEN} at postgres://app:hunter2@db/users")))
    (line,) = lines(caplog)
    assert "Traceback" in line.getMessage()
    assert line.exc_info is None
    assert TOKEN not in caplog.text
    assert "hunter2" not in caplog.text


async def test_an_app_without_a_response_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None:
        pass

    assert (await get(flexmw.Envelope().asgi(silent))).status_code == 500
    (line,) = lines(caplog)
    assert line.getMessage() == "GET /crash: the app has sent no response. The client gets a 500."


async def test_an_app_that_returns_within_its_stream_is_logged_and_the_client_gets_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    response = await get(flexmw.Envelope().asgi(one_event))
    assert response.text.startswith('data: 1\n\nevent: error\ndata: {"error":{"message":"Internal server error."')
    (line,) = lines(caplog)
    assert line.getMessage() == (
        "GET /crash: the app has returned without the end of its stream. The client gets an error at its end, unless "
        "the app has sent the last event."
    )


def failing_within(status: int) -> ASGIApp:
    """An app whose framework sends the error of a failure as a second response, as muffin does."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await one_event(scope, receive, send)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"data: 2\n\n"})

    return app


async def test_an_error_that_begins_within_a_stream_ends_it_as_a_failed_one(caplog: pytest.LogCaptureFixture) -> None:
    response = await get(flexmw.Envelope().asgi(failing_within(500)))
    assert response.text.startswith('data: 1\n\nevent: error\ndata: {"error":{"message":"Internal server error."')
    (line,) = lines(caplog)
    assert "the app has begun a second response, a 500, within its stream" in line.getMessage()


@pytest.mark.parametrize("is_handled", [True, False])
async def test_an_intentional_error_that_begins_within_a_stream_keeps_its_code(
    caplog: pytest.LogCaptureFixture, *, is_handled: bool
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        error = flexmw.APIError(status=402, code="no_credit", message="Add credit.")
        await one_event(scope, receive, send)
        try:
            raise error
        except flexmw.APIError:
            if is_handled:
                await send({"type": "http.response.start", "status": 402, "headers": []})
        await send({"type": "http.response.start", "status": 402, "headers": []})

    response = await get(flexmw.Envelope().asgi(app))
    assert response.text.startswith('data: 1\n\nevent: error\ndata: {"error":{"message":"Add credit."')
    assert '"code":"no_credit"' in response.text
    assert lines(caplog) == []


async def test_an_error_that_begins_when_the_client_has_left_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        await failing_within(500)(scope, receive, send)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pass

    await flexmw.Envelope().asgi(app)({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, send)
    assert lines(caplog) == []


async def test_a_start_that_is_sent_again_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    response = await get(flexmw.Envelope().asgi(failing_within(200)))
    assert response.text == "data: 1\n\ndata: 2\n\n"
    assert lines(caplog) == []


async def test_an_app_that_returns_because_its_client_has_left_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise BrokenPipeError

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with suppress(OSError):
            await one_event(scope, receive, send)

    scope = {"type": "http", "method": "GET", "path": "/crash", "headers": [], "query_string": b""}
    await flexmw.Envelope().asgi(app)(scope, anyio.sleep_forever, send)
    assert lines(caplog) == []


async def test_lines_about_crashes_are_bounded(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    monkeypatch.setattr(crash_log, "_LIMIT", LogLimit(burst=10, per_second=1.0, monotonic=clock.monotonic))
    app = app_of(KeyError("x"))
    for _ in range(15):
        await get(app)
    assert len(lines(caplog)) == 10
    clock.advance(1.0)
    await get(app)
    assert "(5 more such lines were left out)" in lines(caplog)[-1].getMessage()
