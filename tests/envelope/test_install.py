"""The host's own way to install it: what a crash goes through, and whose handlers stay."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import flexmw
from tests.wire import call

pytestmark = pytest.mark.anyio
ORIGIN = [(b"origin", b"https://ui.example"), (b"host", b"h")]


async def crash(request: Request) -> Response:
    raise ValueError("hidden")


async def own(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": {"message": "Mine.", "type": "mine", "code": "mine"}}, 500)


@pytest.fixture(params=[Starlette, FastAPI])
def host(request: pytest.FixtureRequest) -> Any:
    return request.param(routes=[Route("/crash", crash)])


async def test_inside_cors_a_crash_gets_the_hosts_cors_headers(host: Any) -> None:
    host.add_middleware(flexmw.Envelope().asgi)
    host.add_middleware(CORSMiddleware, allow_origins=["https://ui.example"])
    seen = await call(host, path="/crash", headers=ORIGIN)
    assert seen.error.code == "internal_error"
    assert seen.headers["access-control-allow-origin"] == "https://ui.example"
    assert seen.headers["vary"] == "Origin"
    assert isinstance(seen.raised, ValueError)


def around_cors(host: Any) -> Any:
    host.add_middleware(CORSMiddleware, allow_origins=["https://ui.example"])
    host.add_middleware(flexmw.Envelope().asgi)
    return host


def around_what_hides_cors(host: Any) -> Any:
    def hiding(app: Any) -> Any:
        async def wrapped(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, send)

        return wrapped

    host.add_middleware(CORSMiddleware, allow_origins=["https://ui.example"])
    host.add_middleware(hiding)
    host.add_middleware(flexmw.Envelope().asgi)
    return host


def around_the_app(host: Any) -> Any:
    host.add_middleware(CORSMiddleware, allow_origins=["https://ui.example"])
    return flexmw.Envelope().asgi(host)


def in_the_app(host: Any) -> Any:
    host.add_middleware(CORSMiddleware, allow_origins=["https://ui.example"])
    return flexmw.install(host, flexmw.Envelope())


@pytest.mark.parametrize("put", [around_cors, around_what_hides_cors, around_the_app, in_the_app])
async def test_outside_of_cors_a_crash_gets_them_too(host: Any, put: Any) -> None:
    seen = await call(put(host), path="/crash", headers=ORIGIN)
    assert seen.error.code == "internal_error"
    assert seen.headers["access-control-allow-origin"] == "https://ui.example"
    assert seen.headers["vary"] == "Origin"


@pytest.mark.parametrize("key", [500, Exception])
async def test_a_handler_for_crashes_that_the_host_has_registered_stays(host: Any, key: Any) -> None:
    host.add_exception_handler(key, own)
    host.add_middleware(flexmw.Envelope().asgi)
    assert (await call(host, path="/crash")).error.code == "mine"
    assert (await call(flexmw.Envelope().asgi(host), path="/crash")).error.code == "mine"


async def test_installed_twice_it_is_the_same_as_once(host: Any) -> None:
    host.add_middleware(flexmw.Envelope().asgi)
    seen = await call(flexmw.Envelope().asgi(host), path="/nowhere")
    assert (seen.status, seen.error.code) == (404, "unknown_url")
    assert [name for name, _ in seen.starts[0]["headers"]].count(b"x-request-id") == 1


async def test_debug_pages_pass_only_where_that_is_asked_for() -> None:
    host = Starlette(debug=True, routes=[Route("/crash", crash)])
    seen = await call(flexmw.Envelope().asgi(host), path="/crash")
    assert b"hidden" not in seen.body
    assert seen.error.code == "internal_error"
    seen = await call(flexmw.Envelope(debug=True).asgi(host), path="/crash")
    assert b"Traceback" in seen.body


@pytest.mark.parametrize(
    "options",
    [
        {"timeout_status": 503}, {"validation_status": 200}, {"max_body": 0}, {"max_wait": 0}, {"max_wait": "5"},
        {"request_id": ""}, {"passthrough": ("v1",)}, {"unless": 3}, {"dialects": (3,)}, {"debug": 1},
    ],
)  # fmt: skip
async def test_an_option_that_cannot_work_is_refused_with_its_name(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(flexmw.ConfigError, match=rf"Envelope\({name}="):
        flexmw.Envelope(**options)


async def test_a_dialect_that_is_not_installed_is_refused_when_the_app_is_wrapped() -> None:
    with pytest.raises(flexmw.PluginError, match=r"nobody\.dialect"):
        flexmw.Envelope(dialects=("nobody.dialect",)).asgi(Starlette())


async def test_an_unmodified_sdk_runs_a_post_that_crashes_once() -> None:
    import httpx2
    import openai

    runs: list[str] = []

    async def work(request: Request) -> Response:
        runs.append(request.url.path)
        raise ValueError("after the work")

    host = Starlette(routes=[Route("/chat/completions", work, methods=["POST"])])
    for app, count in ((flexmw.Envelope().asgi(host), 1), (host, 3)):
        runs.clear()
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)  # type: ignore[arg-type]
        async with openai.AsyncOpenAI(
            api_key="k", base_url="http://h", http_client=httpx2.AsyncClient(transport=transport)
        ) as client:
            with pytest.raises(openai.InternalServerError):
                await client.chat.completions.create(model="m", messages=[])
        assert len(runs) == count
