"""Components in the place of a middleware class: what users write for ``add_middleware`` and ``middleware=[...]``."""

from __future__ import annotations

import copy
import inspect
import pickle
from functools import partial
from typing import Any

import pytest
from litestar import Litestar, get
from litestar.middleware import DefineMiddleware
from litestar.testing import TestClient as LitestarClient
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

import flexmw

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


async def fine(request: Request) -> Response:
    return PlainTextResponse("fine")


def statuses(app: Any) -> list[int]:
    client = TestClient(app)
    return [client.get("/ok").status_code for _ in range(2)]


@pytest.mark.parametrize(
    ("middleware", "values", "options"),
    [
        (flexmw.RateLimit("1/hour"), (), {}),
        (flexmw.RateLimit("1/hour").asgi, (), {}),
        (flexmw.RateLimit, ("1/hour",), {}),
        (flexmw.RateLimit, ("1/hour", "9/day"), {"headers": ("ietf",)}),
        (flexmw.RateLimit, (), {"rates": ("1/hour",)}),
    ],
    ids=["object", "method", "class", "class with options", "class with keywords"],
)
def test_add_middleware_takes_a_component_in_every_spelling(
    middleware: Any, values: tuple[Any, ...], options: dict[str, Any]
) -> None:
    app = Starlette(routes=[Route("/ok", fine)])
    app.add_middleware(middleware, *values, **options)
    assert statuses(app) == [200, 429]
    app = Starlette(routes=[Route("/ok", fine)], middleware=[Middleware(middleware, *values, **options)])
    assert statuses(app) in ([200, 429], [429, 429]), "one object shares its counters"


@pytest.mark.parametrize(
    "component",
    [flexmw.Envelope, flexmw.Tagging, flexmw.Idempotency, flexmw.Envelope(), flexmw.Tagging(), flexmw.Idempotency()],
)
def test_every_server_component_is_a_middleware_factory(component: Any) -> None:
    app = Starlette(routes=[Route("/ok", fine)])
    app.add_middleware(component)
    assert statuses(app) == [200, 200]
    assert callable(flexmw.adopt(CORSMiddleware, allow_origins=["*"])(app))  # type: ignore[operator]


def crash(request: Request) -> Response:
    raise ValueError("hidden")


@pytest.mark.parametrize("beside", [flexmw.Tagging(), partial(GZipMiddleware, minimum_size=9)])
def test_a_crash_is_sent_beside_middleware_without_a_name(beside: Any) -> None:
    app = Starlette(routes=[Route("/crash", crash)])
    app.add_middleware(flexmw.Envelope())
    app.add_middleware(beside)
    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    response = TestClient(app, raise_server_exceptions=False).get("/crash")
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")


def as_sentry_patches(middleware: Any) -> Any:
    """What the integrations of sentry-sdk 2.75 for Starlette and Litestar do to middleware that is added."""
    replaced = middleware.__call__

    async def _create_span_call(app: Any, scope: Any, receive: Any, send: Any, **more: Any) -> None:
        await replaced(app, scope, receive, send, **more)

    if replaced.__name__ != "_create_span_call":
        middleware.__call__ = _create_span_call
    return middleware


@pytest.mark.parametrize(
    "middleware",
    [flexmw.Envelope, flexmw.Envelope(), flexmw.Envelope().asgi, flexmw.adopt(GZipMiddleware).asgi],  # type: ignore[union-attr]
    ids=["class", "object", "method", "adopted"],
)
def test_a_library_may_patch_what_is_added(middleware: Any) -> None:
    app = Starlette(routes=[Route("/ok", fine)])
    app.add_middleware(as_sentry_patches(middleware))
    assert statuses(app) == [200, 200]
    assert statuses(flexmw.Envelope()(app)) == [200, 200]


@pytest.mark.parametrize("component", [flexmw.Retry, flexmw.Pace, flexmw.Retry(), flexmw.Pace()])
def test_a_component_of_clients_says_so_before_the_first_request(component: Any) -> None:
    app = Starlette()
    app.add_middleware(component)
    with pytest.raises(flexmw.ConfigError, match="only a client side"):
        app.build_middleware_stack()


def test_a_wrong_option_of_a_class_is_refused_before_the_first_request() -> None:
    app = Starlette()
    app.add_middleware(flexmw.Envelope, hold="soon")  # type: ignore[arg-type]
    with pytest.raises(flexmw.ConfigError, match=r"Envelope\(hold="):
        app.build_middleware_stack()


@get("/a")
async def first() -> str:
    return "fine"


@get("/b")
async def second() -> str:
    return "fine"


def test_all_routes_of_litestar_share_one_object() -> None:
    app = Litestar([first, second], middleware=[flexmw.RateLimit("1/hour")], logging_config=None)
    with LitestarClient(app) as client:
        assert [client.get(path).status_code for path in ("/a", "/b")] == [200, 429]


@pytest.mark.parametrize("middleware", [flexmw.RateLimit, DefineMiddleware(flexmw.RateLimit, "1/hour")])
def test_litestar_is_not_given_one_limiter_for_each_route(middleware: Any) -> None:
    with pytest.raises(flexmw.ConfigError, match=r"middleware=\[flexmw\.RateLimit\(\.\.\.\)\], or flexmw\.install"):
        Litestar([first, second], middleware=[middleware], logging_config=None)


@pytest.mark.parametrize("component", [flexmw.Envelope(hold=0.5), flexmw.Retry(attempts=2)])
def test_a_component_stays_a_plain_dataclass(component: Any) -> None:
    kind = type(component)
    assert copy.copy(component) == pickle.loads(pickle.dumps(component)) == component
    assert list(inspect.signature(kind).parameters) == list(inspect.signature(kind.__init__).parameters)[1:]
    with pytest.raises((TypeError, flexmw.ConfigError), match="nothing"):
        kind(nothing=1)
    with pytest.raises(TypeError, match="positional"):
        kind("text")
