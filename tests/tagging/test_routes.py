"""``http.route``: a template, in whatever way an app is put together."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Host, Mount, Route, Router

import flexmw
from flexmw.envelope import Envelope
from flexmw.tagging import Tagging
from tests.tagging.apps import OFF, call
from tests.tagging.sdk import Signals

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def fail(request: Request) -> JSONResponse:
    raise flexmw.ModelNotFound("foo")


LEAVES: list[BaseRoute] = [Route("/users/{id}", fail)]


class Middleware:
    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


APPS: dict[str, tuple[Any, str, str | None]] = {
    "fixed mount": (Mount("/v1", routes=LEAVES), "/v1/users/7", "/v1/users/{id}"),
    "mount with a parameter": (Mount("/t/{tenant}", routes=LEAVES), "/t/acme/users/7", "/t/{tenant}/users/{id}"),
    "mount in a mount": (
        Mount("/t/{tenant}", routes=[Mount("/v{n:int}", app=Starlette(routes=LEAVES))]),
        "/t/acme/v2/users/7",
        "/t/{tenant}/v{n}/users/{id}",
    ),
    "mount of an app in middleware": (
        Mount("/t/{tenant}", app=Middleware(Starlette(routes=[Mount("/{b}", routes=LEAVES)]))),
        "/t/acme/x/users/7",
        "/t/{tenant}/{b}/users/{id}",
    ),
    "mount at the root": (Mount("", routes=[Mount("/{a}", routes=LEAVES)]), "/x/users/7", "/{a}/users/{id}"),
    "mount behind a host": (
        Host("127.0.0.1", app=Router(routes=[Mount("/t/{tenant}", routes=LEAVES)])),
        "/t/acme/users/7",
        "/t/{tenant}/users/{id}",
    ),
    "nothing in a mount": (Mount("/t/{tenant}", routes=LEAVES), "/t/acme/nothing", "/t/{tenant}/{path}"),
    "nothing at all": (Mount("/t/{tenant}", routes=LEAVES), "/nothing", None),
}


@pytest.mark.parametrize("root_path", ["", "/api/prod"])
@pytest.mark.parametrize("case", APPS)
@pytest.mark.parametrize("framework", ["starlette", "fastapi, telemetry off"])
async def test_the_route_of_a_mounted_app_has_no_text_of_the_caller(
    framework: str, case: str, root_path: str, signals: Signals
) -> None:
    route, path, template = APPS[case]
    app = Starlette(routes=[route]) if framework == "starlette" else FastAPI(telemetry=OFF, routes=[route])  # type: ignore[arg-type]
    inner = flexmw.wrap_app(app, Tagging(**signals.options), Envelope())

    async def behind_a_proxy(scope: Any, receive: Any, send: Any) -> None:
        await inner({**scope, "root_path": root_path, "path": root_path + path}, receive, send)

    await call(behind_a_proxy, path)
    ((attributes, _),) = signals.points("flexmw.server.error_responses")
    assert attributes.get("http.route") == (None if template is None else root_path + template)


async def test_the_route_is_the_one_on_the_span_of_fastapi(signals: Signals) -> None:
    sub = FastAPI(telemetry=signals.options)  # type: ignore[arg-type]
    sub.add_route("/users/{id}", fail)
    app = FastAPI(telemetry=signals.options)  # type: ignore[arg-type]
    app.mount("/t/{tenant}", sub)
    app.mount("/s/{tenant}", Starlette(routes=LEAVES))
    router = APIRouter()
    router.add_route("/users/{id}", fail)
    app.include_router(router, prefix="/orgs/{org}")
    wrapped = flexmw.wrap_app(app, Tagging(**signals.options), Envelope())
    for path in ("/t/acme/users/7", "/s/acme/users/7", "/orgs/acme/users/7", "/t/acme/nothing"):
        await call(wrapped, path)
    on_spans = {(span.attributes or {}).get("http.route") for span in signals.spans if span.kind.name == "SERVER"}
    on_metrics = {attributes.get("http.route") for attributes, _ in signals.points("flexmw.server.error_responses")}
    assert on_metrics == on_spans
    assert not [route for route in on_spans if "acme" in str(route)]


async def test_the_paths_of_one_stranger_crowd_out_no_route(signals: Signals) -> None:
    app = Starlette(routes=[Mount("/t/{tenant}", routes=LEAVES), Route("/late", fail)])
    wrapped = flexmw.wrap_app(app, Tagging(**signals.options), Envelope())
    for number in range(250):
        await call(wrapped, f"/t/{number}/users/7")
    await call(wrapped, "/late")
    routes = {attributes["http.route"] for attributes, _ in signals.points("flexmw.server.error_responses")}
    assert routes == {"/t/{tenant}/users/{id}", "/late"}
