"""What a framework's own routing means for a limiter: a root path of its own, and one limiter around many routes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from litestar import Litestar, Router, get

import flexmw
from flexmw.kit.path_patterns import PathPattern
from flexmw.kit.paths import matched_patterns, routing_of

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.filterwarnings("ignore:The `root_path` parameter")
def test_an_app_that_knows_its_root_path_is_asked_for_it() -> None:
    app = flexmw.wrap_app(FastAPI(root_path="/api"), flexmw.Envelope(), flexmw.Idempotency())
    assert routing_of(app).root_path == "/api"
    scope = {"type": "http", "method": "GET", "path": "/api/login", "root_path": ""}
    assert matched_patterns((PathPattern("/login", "RateLimit(limit=...)"),), scope, routing_of(app))


@pytest.mark.parametrize("place", ["app", "router"])
async def test_one_limiter_around_many_routes_is_one_bucket(place: str) -> None:
    @get("/a")
    async def a() -> str:
        return "a"

    @get("/b")
    async def b() -> str:
        return "b"

    where: dict[str, dict[str, Any]] = {place: {"middleware": [flexmw.RateLimit("3/hour").asgi]}}
    router = Router("/", route_handlers=[a, b], **where.get("router", {}))
    app = Litestar([router], logging_config=None, **where.get("app", {}))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://host") as client:
        statuses = [(await client.get(path)).status_code for path in ("/a", "/b", "/a", "/b")]
    assert statuses == [200, 200, 200, 429]
