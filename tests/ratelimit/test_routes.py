"""Which paths have which limit: mounts, root paths, odd methods, and paths that are read in two ways."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import flexmw
from flexmw import RateLimit
from flexmw.errors import ConfigError
from flexmw.ratelimit.routes import UnitRates
from flexmw.testing import FakeClock
from tests.ratelimit.calls import answering, call

pytestmark = pytest.mark.anyio


def limits_of(table: dict[str, str], path: str, method: str = "GET", **scope: Any) -> set[int]:
    rates = UnitRates(["100/minute"], table)
    return {rate.limit for rate in rates.by_path({"type": "http", "method": method, "path": path, **scope})}


def test_the_more_specific_pattern_applies() -> None:
    table = {"/users/*": "1/minute", "/users/{id}": "2/minute", "/users/me": "3/minute", "POST /users/me": "4/minute"}
    assert limits_of(table, "/users/7/x") == {1}
    assert limits_of(table, "/users/7") == {2}
    assert limits_of(table, "//Users/me/") == {3}
    assert limits_of(table, "/users/me", "post") == {4}
    assert limits_of(table, "/other") == {100}


def test_a_path_that_is_read_in_two_ways_counts_in_both() -> None:
    table = {"/users/{id}": "2/minute", "/users/{id}/{part}": "50/minute"}
    assert limits_of(table, "/users/a/b", raw_path=b"/users/a%2Fb") == {2, 50}
    assert limits_of(table, "/users/a/b", raw_path=b"/users/a/b") == {50}


def test_a_path_is_decided_alike_each_time_and_with_each_root_path() -> None:
    rates = UnitRates(["100/minute"], {"/login": "2/minute"})
    scope = {"type": "http", "method": "GET", "path": "/api/login", "root_path": ""}
    for _ in range(2):
        assert rates.by_path(scope)[0].limit == 100
        assert rates.by_path({**scope, "root_path": "/api"})[0].limit == 2


@pytest.mark.parametrize(
    "table",
    [
        {"/users/{id}": "1/minute", "/users/{name}/": "2/minute"},
        {"/login": "1/minute", "/LOGIN": "2/minute"},
        {"GET /a/*": "1/minute", "GET  /a/{rest:path}": "2/minute"},
    ],
)
def test_two_patterns_of_the_same_requests_are_refused(table: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"RateLimit\(limit=.*one entry for these requests"):
        RateLimit(limit=table)


async def test_the_patterns_of_a_mounted_app_are_its_own_paths_or_whole_ones() -> None:
    async def fine(request: Any) -> PlainTextResponse:
        return PlainTextResponse("fine")

    for exempt in ("/health", "/v1/health"):
        inner = RateLimit("1/minute", exempt=exempt, clock=FakeClock()).asgi(
            Starlette(routes=[Route("/health", fine), Route("/x", fine)])
        )
        app: Any = Starlette(routes=[Mount("/v1", inner)])
        assert [(await call(app, path="/v1/health", query_string=b"")).status for _ in range(3)] == [200] * 3
        assert [(await call(app, path="/v1/x", query_string=b"")).status for _ in range(2)] == [200, 429]


async def test_the_errors_of_a_passthrough_path_pass_under_a_root_path_and_in_other_spellings() -> None:
    async def missing(scope: Any, receive: Any, send: Any) -> None:
        scope["root_path"] = "/changed/by/a/router"
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b"mine"})

    app = flexmw.Envelope(passthrough=["/scim"]).asgi(missing)  # type: ignore[arg-type]
    for path, root_path in (("/scim/Users", ""), ("//scim/x", ""), ("/api/scim/x", "/api")):
        assert (await call(app, path=path, root_path=root_path)).body == b"mine"
    assert (await call(app, path="/other", root_path="")).body != b"mine"


async def test_a_method_in_lower_case_is_the_method() -> None:
    app = RateLimit(limit={"POST /x": "1/minute"}, clock=FakeClock()).asgi(answering())
    assert [(await call(app, path="/x", method=method)).status for method in ("POST", "post", "Post")] == [
        200,
        429,
        429,
    ]
