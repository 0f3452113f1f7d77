"""Refusals and replays leave with the CORS headers of the host, and a preflight is neither counted nor refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import flexmw

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

UI, OTHER, STRANGER = "https://ui.example", "https://b.example", "https://evil.example"
CORS: dict[str, Any] = {"allow_origins": [UI, OTHER], "allow_credentials": True, "expose_headers": ["retry-after"]}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def starlette() -> Any:
    async def fine(request: Request) -> Response:
        return PlainTextResponse("fine")

    return Starlette(routes=[Route("/x", fine, methods=["GET", "POST"])])


def with_add_middleware() -> Any:
    app = starlette()
    app.add_middleware(CORSMiddleware, allow_methods=["*"], **CORS)
    return app


def with_a_layer() -> Any:
    return flexmw.Tagging().asgi(CORSMiddleware(starlette(), allow_methods=["*"], **CORS))


def litestar() -> Any:
    from litestar import Litestar, get, post
    from litestar.config.cors import CORSConfig

    @get("/x")
    async def read() -> str:
        return "fine"

    @post("/x")
    async def write() -> str:
        return "fine"

    return Litestar([read, write], cors_config=CORSConfig(**CORS), logging_config=None)


def blacksheep() -> Any:
    from blacksheep import Application, Response, Router, TextContent

    app = Application(router=Router())
    app.use_cors(allow_methods="*", **CORS)

    async def fine(request: Any) -> Response:
        return Response(200, content=TextContent("fine"))

    app.router.add_get("/x", fine)
    app.router.add_post("/x", fine)
    return app


def falcon() -> Any:
    import falcon
    import falcon.asgi

    class Fine:
        async def on_get(self, request: Any, response: Any) -> None:
            response.text = "fine"

        on_post = on_get

    cors = falcon.CORSMiddleware(
        allow_origins=[UI, OTHER], allow_credentials=[UI, OTHER], expose_headers=["retry-after"]
    )
    app = falcon.asgi.App(middleware=[cors])
    app.add_route("/x", Fine())
    return app


HOSTS: dict[str, Callable[[], Any]] = {
    "add_middleware": with_add_middleware,
    "layer": with_a_layer,
    "litestar": litestar,
    "blacksheep": blacksheep,
    "falcon": falcon,
}


def allowed(response: httpx.Response) -> tuple[str | None, str | None]:
    headers = response.headers
    assert len(headers.get_list("access-control-allow-origin")) <= 1
    return headers.get("access-control-allow-origin"), headers.get("access-control-allow-credentials")


@pytest.mark.parametrize("outer", [[], [flexmw.Envelope()]], ids=["alone", "envelope"])
@pytest.mark.parametrize("host", HOSTS)
async def test_a_refusal_can_be_read_by_the_page_that_may_read_responses(host: str, outer: list[Any]) -> None:
    app = flexmw.wrap_app(HOSTS[host](), *outer, flexmw.RateLimit("1/hour"), flexmw.Idempotency(required=True))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://host") as client:
        keyless = await client.post("/x", headers={"origin": UI})
        assert (keyless.status_code, allowed(keyless)) == (400, (UI, "true"))
        limited = await client.get("/x", headers={"origin": OTHER})
        assert (limited.status_code, allowed(limited)) == (429, (OTHER, "true"))
        assert limited.headers["access-control-expose-headers"].lower() == "retry-after"
        assert limited.headers["retry-after"]
        assert limited.json()["error"]["code"] == "rate_limit_exceeded"
        for headers in ({"origin": STRANGER}, {}):
            refused = await client.get("/x", headers=headers)
            assert (refused.status_code, refused.headers.get("access-control-allow-origin")) == (429, None)


@pytest.mark.parametrize("host", HOSTS)
async def test_a_preflight_is_neither_counted_nor_refused(host: str) -> None:
    limiter = flexmw.RateLimit("1/hour")
    app = flexmw.wrap_app(HOSTS[host](), limiter, flexmw.Idempotency(required=True, methods=("POST", "OPTIONS")))
    preflight = {"origin": UI, "access-control-request-method": "POST"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://host") as client:
        for _ in range(3):
            response = await client.options("/x", headers=preflight)
            assert response.status_code in (200, 204)
            assert allowed(response)[0] == UI
        assert (await client.get("/x")).status_code == 200
        assert (await client.options("/x", headers=preflight)).status_code in (200, 204)
        assert (await client.options("/x")).status_code == 429


@pytest.mark.parametrize("host", HOSTS)
async def test_a_replay_has_the_cors_headers_of_the_page_that_asks_again(host: str) -> None:
    app = flexmw.wrap_app(HOSTS[host](), flexmw.Envelope(), flexmw.Idempotency())
    headers = {"authorization": "Bearer k", "idempotency-key": "one"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://host") as client:
        first = await client.post("/x", headers={**headers, "origin": UI})
        assert allowed(first) == (UI, "true")
        for origin, expected in ((OTHER, (OTHER, "true")), (UI, (UI, "true"))):
            replay = await client.post("/x", headers={**headers, "origin": origin})
            assert (replay.headers["idempotent-replayed"], allowed(replay)) == ("true", expected)
        stranger = await client.post("/x", headers={**headers, "origin": STRANGER})
        assert stranger.headers["idempotent-replayed"] == "true"
        assert "access-control-allow-origin" not in stranger.headers
