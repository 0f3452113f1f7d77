"""A header on every 429, or on every error response, is written in one function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import flexmw
from flexmw.contract import ErrorBody, error_headers
from flexmw.contract.error_headers import add_error_headers, add_missing
from tests.servers import ASGIApp
from tests.wire import AppResponse, call

pytestmark = pytest.mark.anyio

NAMES = (b"x-every-429", b"x-every-error")


@pytest.fixture(autouse=True)
def one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one place: what a contributor would write into the function."""

    def add(headers: list[tuple[bytes, bytes]], status: int, error: ErrorBody, **facts: Any) -> None:
        add_error_headers(headers, status, error, **facts)
        add_missing(headers, [(b"x-every-error", error.code.encode() if error.code else b"")])
        if status == 429:
            add_missing(headers, [(b"x-every-429", b"1")])

    monkeypatch.setattr(error_headers, "add_error_headers", add)


def framework(endpoint: Callable[[Request], Response]) -> ASGIApp:
    return Starlette(routes=[Route("/", endpoint)])


def own_response(request: Request) -> Response:
    return JSONResponse({"detail": "Slow down."}, 429)


def own_error_object(request: Request) -> Response:
    error = {"message": "Slow down.", "type": "rate_limit_error", "code": "slow_down"}
    return JSONResponse({"error": error}, 429)


def own_exception(request: Request) -> Response:
    raise HTTPException(429, "Slow down.")


def error_of_the_contract(request: Request) -> Response:
    raise flexmw.RateLimitExceeded(2.0)


def error_of_an_upstream(request: Request) -> Response:
    upstream = httpx.Response(429, headers={"retry-after": "3"}, request=httpx.Request("GET", "http://upstream"))
    upstream.raise_for_status()
    return upstream  # type: ignore[return-value]


ENDPOINTS = [own_response, own_error_object, own_exception, error_of_the_contract, error_of_an_upstream]


def names_of(response: AppResponse) -> list[bytes]:
    return [name for name, _ in response.starts[0]["headers"]]


def assert_each_once(response: AppResponse) -> None:
    assert response.status == 429
    assert [names_of(response).count(name) for name in NAMES] == [1, 1]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("components", [(), (flexmw.RateLimit("9/minute"),)], ids=["alone", "with a limiter"])
async def test_every_429_of_an_app_under_an_envelope_has_it(endpoint: Any, components: Any) -> None:
    app = flexmw.wrap_app(framework(endpoint), flexmw.Tagging(), flexmw.Envelope(), *components)
    assert_each_once(await call(app))


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_every_429_of_an_app_that_has_the_envelope_among_its_middleware_has_it(endpoint: Any) -> None:
    app = framework(endpoint)
    app.add_middleware(flexmw.Envelope().asgi)  # type: ignore[attr-defined]
    assert_each_once(await call(app))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda app: flexmw.RateLimit("1/minute").asgi(app),
        lambda app: flexmw.wrap_app(app, flexmw.Envelope(), flexmw.RateLimit("1/minute")),
        lambda app: flexmw.wrap_app(app, flexmw.Tagging(), flexmw.Envelope(), flexmw.RateLimit("1/minute")),
        lambda app: flexmw.RateLimit("1/minute").asgi(flexmw.Envelope().asgi(app)),
        lambda app: flexmw.Envelope().asgi(flexmw.Envelope().asgi(flexmw.RateLimit("1/minute").asgi(app))),
    ],
    ids=["without an envelope", "under one", "under one and tagging", "around one", "under two"],
)
async def test_the_refusal_of_a_limiter_has_it_with_an_envelope_and_without(wrap: Any) -> None:
    app = wrap(framework(lambda request: Response("ok")))
    assert names_of(await call(app)).count(b"x-every-error") == 0
    refused = await call(app)
    assert_each_once(refused)
    assert names_of(refused).count(b"retry-after") == 1
    assert names_of(refused).count(b"x-ratelimit-limit-requests") == 1


@pytest.mark.parametrize("enveloped", [False, True])
async def test_the_denial_of_a_websocket_has_it(enveloped: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.close", "code": 1000})

    wrapped = flexmw.RateLimit("1/minute").asgi(app)
    if enveloped:
        wrapped = flexmw.Envelope().asgi(wrapped)
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    for _ in range(2):
        sent.clear()
        scope = {"type": "websocket", "path": "/", "headers": [], "extensions": {"websocket.http.response": {}}}
        await wrapped(scope, receive, send)
    assert (sent[0]["type"], sent[0]["status"]) == ("websocket.http.response.start", 429)
    assert [[name for name, _ in sent[0]["headers"]].count(name) for name in NAMES] == [1, 1]


@pytest.mark.parametrize("status", [400, 404, 418, 500, 503])
async def test_every_error_status_has_the_header_of_every_error(status: int) -> None:
    app = flexmw.Envelope().asgi(framework(lambda request: Response("No.", status)))
    response = await call(app)
    assert (response.status, names_of(response).count(b"x-every-error")) == (status, 1)
    assert b"x-every-429" not in names_of(response)


async def test_an_error_that_is_left_alone_has_none() -> None:
    app = flexmw.Envelope(passthrough=("/",)).asgi(framework(own_response))
    assert not set(NAMES) & set(names_of(await call(app)))
