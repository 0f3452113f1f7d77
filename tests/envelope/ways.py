"""The ways to install the Envelope: what each one reaches. The page of failure modes prints the rows that differ."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI
from quart import Quart
from starlette.applications import Starlette
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

import flexmw
from flexmw.contract import ErrorBody
from tests.envelope.apps import SHARED, fastapi_app, starlette_app
from tests.envelope.modes import MODES, Mode
from tests.hosts.apps import quart
from tests.hosts.litestar_app import make as litestar
from tests.hosts.test_errors import CASES, Case

__all__ = ["WAYS", "differences"]

ENVELOPE = flexmw.Envelope(max_wait=0.3)
WAYS = ("wrap_app", "install", "add_middleware")
SLOW = frozenset({"/endless"})
"""A client in this process waits for the end of the app, and this one ends after half a minute."""


@dataclass(frozen=True)
class Outside:
    """A failure outside of an app's own middleware. ``make`` returns an app, given what installs the Envelope in it."""

    what: str
    framework: str
    make: Callable[[str], Any]
    path: str = "/ok"
    method: str = "GET"
    send: bytes | None = None


def put(way: str, app: Any) -> Any:
    """An app with the Envelope, installed in one of the ways."""
    if way == "wrap_app":
        return flexmw.wrap_app(app, ENVELOPE)
    if way == "install":
        return flexmw.install(app, ENVELOPE)
    if isinstance(app, Quart):
        app.asgi_app = ENVELOPE(app.asgi_app)  # type: ignore[method-assign, assignment]
    else:
        app.add_middleware(ENVELOPE)
    return app


def in_litestar(way: str, **options: Any) -> Any:
    if way == "add_middleware":
        return litestar(middleware=[ENVELOPE], **options)
    return put(way, litestar(**options))


async def own(request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": "Mine."}, 500)


def with_a_crash_handler(way: str) -> Any:
    app = starlette_app()
    app.add_exception_handler(Exception, own)
    return put(way, app)


def with_later_middleware(way: str) -> Any:
    app = starlette_app()
    served = put(way, app)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["elsewhere"])
    return served


def with_a_body_limit(way: str) -> Any:
    app = FastAPI(max_body_size=10)
    app.add_api_route("/ok", SHARED["read-json"], methods=["POST"])
    return put(way, app)


def with_its_own_call(way: str) -> Any:
    class Closed(Starlette):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await PlainTextResponse("Closed for today.", 503)(scope, receive, send)

    return put(way, Closed())


def in_litestar_with_a_hook(way: str) -> Any:
    async def hook(message: Any, scope: Any) -> None:
        raise ValueError("hidden")

    return in_litestar(way, before_send=[hook])


def in_quart_with_later_middleware(way: str) -> Any:
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("No.", 403)(scope, receive, send)

    app: Any = quart()
    served = put(way, app)
    app.asgi_app = refuse
    return served


OUTSIDE = [
    Outside("middleware that was added later refuses", "Starlette", with_later_middleware),
    Outside("a crash, and a handler for `Exception`", "Starlette", with_a_crash_handler, "/crash"),
    Outside("a body over `max_body_size`", "FastAPI", with_a_body_limit, method="POST", send=b'"0123456789"'),
    Outside("a subclass responds in `__call__`", "Starlette", with_its_own_call),
    Outside("a hook of `before_send` crashes", "Litestar", in_litestar_with_a_hook),
    Outside("`app.asgi_app` was replaced later", "Quart", in_quart_with_later_middleware),
]

WHOLE: list[tuple[str, Callable[[str], Any], list[Mode] | list[Case]]] = [
    ("FastAPI", lambda way: put(way, fastapi_app()), [mode for mode in MODES if mode.only in (None, "fastapi")]),
    ("Litestar", in_litestar, CASES),
    ("Quart", lambda way: put(way, quart()), CASES),
]
"""Each framework with all of its failures. FastAPI's app is a Starlette, and has all failures of one."""


def differences() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """The failures whose response depends on the way: what fails, the framework, the responses in the order of WAYS."""
    with asyncio.Runner() as runner:
        yield from runner.run(_differences())


async def _differences() -> list[tuple[str, str, tuple[str, ...]]]:
    rows: list[tuple[str, str, tuple[str, ...]]] = []
    for framework, make, failures in WHOLE:
        apps = [make(way) for way in WAYS]
        rows += [
            (failure.what, framework, tuple([await _response(app, failure) for app in apps]))
            for failure in failures
            if failure.path not in SLOW
        ]
    for outside in OUTSIDE:
        responses = tuple([await _response(outside.make(way), outside) for way in WAYS])
        rows.append((outside.what, outside.framework, responses))
    return [row for row in rows if len(set(row[2])) > 1]


async def _response(app: Any, failure: Mode | Case | Outside) -> str:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = failure.headers if isinstance(failure, Mode) else {"content-type": "application/json"}
    async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
        response = await client.request(failure.method, failure.path, content=failure.send, headers=dict(headers))
    error = ErrorBody.decode(response.content)
    if error is not None:
        return f"{response.status_code} `{error.code}`"
    return f"{response.status_code}, the framework's" if response.content else f"{response.status_code}, the server's"
