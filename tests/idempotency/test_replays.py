"""A failure told twice is told alike: what the first caller saw, and what a replay says, through the whole stack."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.sse import EventSourceResponse
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, Response

import flexmw
from flexmw.errors import JobNotFound

pytestmark = pytest.mark.anyio

VOLATILE = {"x-request-id", "idempotent-replayed", "date", "connection"}  # a replay raises nothing, and keeps it
"""Headers of one response: they may differ between two."""


class Outage(Exception):
    """The host answers it in words of its own."""


class Fire(Outage): ...


class Leak(Outage): ...


class Own(Outage): ...


def answer_of(error: Exception) -> Response:
    if isinstance(error, Leak):
        return JSONResponse({"detail": f"failed: {error}"}, 500)
    if isinstance(error, Own):
        body = {"message": "Out of paper.", "type": "server_error", "code": "out_of_paper", "param": None}
        return JSONResponse({"error": body}, 500)
    if isinstance(error, Fire):
        return PlainTextResponse("The printer is on fire.", 500)
    if isinstance(error, Outage):
        return JSONResponse({"detail": "The printer is out."}, 500)
    return PlainTextResponse("Internal Server Error", 500)


def host(error: Callable[[], Exception], runs: list[str], *, handled: bool) -> FastAPI:
    app = FastAPI()

    @app.post("/prints")
    async def prints() -> None:
        runs.append("run")
        raise error()

    if handled:

        @app.exception_handler(Exception)
        async def _(request: Request, error: Exception) -> Response:
            return answer_of(error)

    return app


async def twice(app: Any) -> tuple[httpx.Response, httpx.Response]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = {"Idempotency-Key": "8e03978e", "Authorization": "Bearer sk-one"}
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
        return await client.post("/prints"), await client.post("/prints")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("handled", [False, True])
@pytest.mark.parametrize("timeout_status", [500, 504])
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (lambda: httpx.ReadTimeout("10.0.0.7 secret"), "upstream_timeout"),
        (lambda: ExceptionGroup("secret", [httpx.ReadTimeout("secret")]), "upstream_timeout"),
        (lambda: httpx.ConnectError("10.0.0.7 secret"), "bad_gateway"),
        (flexmw.JobNotFound, "job_not_found"),
        (lambda: flexmw.SubsystemOffline("Playground"), "service_unavailable"),
        (lambda: ValueError("secret"), "internal_error"),
        (lambda: Leak("secret"), "internal_error"),
        (Outage, "internal_error"),
        (Fire, "internal_error"),
    ],
    ids=["timeout", "group", "unreachable", "kind", "offline", "plain", "leak", "own words", "own text"],
)
async def test_a_replay_is_equal_to_the_first_response(
    error: Callable[[], Exception], code: str, timeout_status: Any, handled: bool
) -> None:
    runs: list[str] = []
    app = flexmw.wrap_app(
        host(error, runs, handled=handled),
        flexmw.Tagging(),
        flexmw.Envelope(timeout_status=timeout_status),
        flexmw.Idempotency(),
    )
    first, second = await twice(app)
    assert first.json()["error"]["code"] == code
    assert (second.status_code, second.content) == (first.status_code, first.content)
    assert second.headers["idempotent-replayed"] == "true"
    assert len(runs) == 1
    assert b"secret" not in second.content
    assert lasting(second) == lasting(first)
    if code == "upstream_timeout":
        assert first.status_code == timeout_status


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_error_that_the_app_put_in_the_envelope_itself_is_replayed_byte_for_byte() -> None:
    runs: list[str] = []
    app = flexmw.wrap_app(host(Own, runs, handled=True), flexmw.Tagging(), flexmw.Envelope(), flexmw.Idempotency())
    first, second = await twice(app)
    assert first.json()["error"]["code"] == "out_of_paper"
    assert (second.status_code, second.content, len(runs)) == (500, first.content, 1)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    "error", [lambda: flexmw.RateLimitExceeded(0.0), flexmw.InsufficientCredit], ids=["429", "402"]
)
async def test_a_refusal_that_the_app_raises_is_sent_and_the_next_request_runs(error: Callable[[], Exception]) -> None:
    runs: list[str] = []
    app = flexmw.wrap_app(host(error, runs, handled=False), flexmw.Tagging(), flexmw.Envelope(), flexmw.Idempotency())
    first, second = await twice(app)
    assert second.content == first.content
    assert "idempotent-replayed" not in second.headers
    assert len(runs) == 2


def lasting(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name not in VOLATILE}


@pytest.mark.parametrize("events", [0, 1, 3])
@pytest.mark.parametrize("known", [False, True])
async def test_a_stream_of_fastapi_that_fails_is_never_replayed_as_a_whole_one(events: int, known: bool) -> None:
    app, runs = FastAPI(), list[int]()

    @app.post("/", response_class=EventSourceResponse)
    async def events_and_then_none() -> AsyncIterator[dict[str, int]]:
        runs.append(1)
        for number in range(events):
            yield {"n": number}
            await anyio.sleep(0.01)  # the event goes out before the next one is made
        raise JobNotFound() if known else RuntimeError("secret")

    stack = flexmw.wrap_app(app, flexmw.Envelope(), flexmw.Idempotency())
    transport = httpx.ASGITransport(stack, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
        first, second = [await client.post("/", headers={"idempotency-key": "one"}) for _ in range(2)]
    assert second.headers["idempotent-replayed"] == "true"
    assert (second.status_code, second.content) == (first.status_code, first.content)
    assert (b"job_not_found" if known else b"internal_error") in second.content
    assert second.status_code == (200 if events else 404 if known else 500)
    assert runs == [1]


@pytest.mark.anyio
@pytest.mark.parametrize("in_task_of_its_own", [False, True])
@pytest.mark.parametrize("status", [500, 502])
@pytest.mark.parametrize("more", [{}, {"traceback": ["File secret.py"]}])
async def test_a_replay_has_no_text_of_the_exception_that_the_first_response_has_not(
    status: int, more: dict[str, Any], in_task_of_its_own: bool
) -> None:
    async def answering_itself(scope: Any, receive: Any, send: Any) -> None:
        try:
            raise ValueError("the secret of the house")
        except ValueError as error:
            headers = {"etag": '"1"', "content-language": "en", "x-kept": "1"}
            await JSONResponse({"detail": repr(error), **more}, status, headers)(scope, receive, send)

    inner = flexmw.Idempotency().asgi(answering_itself)
    if in_task_of_its_own:
        inner = BaseHTTPMiddleware(inner, lambda request, call_next: call_next(request))
    first, replay = await twice(flexmw.Envelope().asgi(inner))
    assert replay.headers["idempotent-replayed"] == "true"
    assert (first.status_code, first.content) == (replay.status_code, replay.content)
    headers, others = (set(response.headers.items()) for response in (first, replay))
    assert {name for name, _ in headers ^ others} <= VOLATILE
    assert ("x-kept", "1") in others
    assert b"secret" not in replay.content
