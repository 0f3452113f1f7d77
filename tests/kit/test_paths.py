"""Patterns of paths: what they match, what they refuse, and that an exemption is never wider than the route."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import flexmw
from flexmw import Idempotency, RateLimit
from flexmw.kit.path_patterns import PathPattern
from flexmw.kit.paths import Routing, all_readings, matched_patterns, request_predicate
from tests.app_calls import responding

OPTION = "RateLimit(limit=...)"


def request(path: str, method: str = "GET", **scope: Any) -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "root_path": "", **scope}


def limits(text: str, scope: dict[str, Any], routing: Routing = Routing()) -> bool:  # noqa: B008
    return bool(matched_patterns((PathPattern(text, OPTION),), scope, routing))


def exempts(text: str, scope: dict[str, Any], routing: Routing = Routing()) -> bool:  # noqa: B008
    return all_readings((PathPattern(text, OPTION),), scope, routing)


@pytest.mark.parametrize(
    "path",
    [
        "/login", "/login/", "//login", "//login//", "/login\n", "/LOGIN", "/Login/", "login", "http://host/login",
        "HTTP://host:8000//login",
    ],
)  # fmt: skip
def test_a_spelling_that_reaches_a_route_has_the_limit_of_the_route(path: str) -> None:
    assert limits("/login", request(path))
    assert limits("/login/", request(path))
    assert limits("GET /login", request(path, "get"))
    assert limits("GET /login", request(path, "HEAD"))
    assert not limits("POST /login", request(path))


@pytest.mark.parametrize("path", ["/", "/log", "/logins", "/login/x", "/x/login", "/login.json", "/login;a"])
def test_another_path_has_another_limit(path: str) -> None:
    assert not limits("/login", request(path))


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/users/{id}/export", "/users/1/export", True),
        ("/users/{id}/export", "/users/a b/export/", True),
        ("/users/{id}/export", "/users/1/2/export", False),
        ("/users/{id}/export", "/users/export", False),
        ("/users/{id}/export", "/users//export", True),
        ("/users/{id}", "/users/", False),
        ("/users/{id:int}", "/users/7", True),
        ("/files/{name}.json", "/files/a.json", True),
        ("/files/{name}.json", "/files/a.xml", False),
        ("/files/{rest:path}", "/files/a/b/c", True),
        ("/files/{rest:path}", "/filesystem", False),
        ("/v1/*", "/v1/a/b", True),
        ("/models/m:generate", "/models/m:generate", True),
        ("/$metadata", "/$metadata", True),
        ("PURGE /x", "/x", False),
        ("/v1/*", "/v1", True),
        ("/v1/*", "/v10", False),
        ("/v1*", "/v10", True),
        ("/users/{id}/*", "/users/1/a/b", True),
        ("/users/{id}/*", "/users/1", True),
        ("/users/{id}/*", "/users", False),
        ("*", "/anything", True),
        ("OPTIONS *", "*", False),
        ("/", "/", True),
        ("/", "/x", False),
    ],
)
def test_a_template_matches_segments(pattern: str, path: str, matches: bool) -> None:
    assert limits(pattern, request(path)) is matches


@pytest.mark.parametrize(
    "pattern",
    [
        "/users/<id>", "GET|POST /x", "GET,POST /x", "get /x", "login", "", "GET", "GET login", "/x?y=1", "/x#y",
        "http://host/x", "GET https://host/x", "/users/*/export", "/v1/**", "/caf%C3%A9", "/a//b", "/a/../b", "/./a",
        "/users/:id", "/users/:id/x", "/users/[id]", "/[id]/x", "/static/.*", "/users/.+", "/x$", "ANY /x", "ALL /x",
        "WS /x", "WEBSOCKET /x", "/users/{id", "/users/id}", "/users/{}", "/a/{rest:path}/b", "/a\\b", "/a\nb", 7, None,
    ],
)  # fmt: skip
def test_a_pattern_that_never_matches_is_refused(pattern: Any) -> None:
    with pytest.raises(flexmw.ConfigError, match=r"RateLimit\(limit=\.\.\.\)"):
        PathPattern(pattern, OPTION)


def test_the_error_says_what_to_write() -> None:
    for pattern, words in {
        "get /x": "capitals: 'GET'",
        "GET|POST /x": "each method in a pattern of its own",
        "/users/<id>": "'{name}'",
        "/users/:id": "'{name}'",
        "ANY /x": "the path alone",
        "WS /x": "'GET'",
        "/users/*/export": "'{name}'",
        "http://host/x": "without scheme and host",
    }.items():
        with pytest.raises(flexmw.ConfigError) as caught:
            PathPattern(pattern, OPTION)
        assert words in str(caught.value)


def test_the_root_path_is_no_part_of_the_path() -> None:
    below = request("/api/login", root_path="/api")
    for pattern in ("/login", "/api/login"):
        assert limits(pattern, below)
        assert exempts(pattern, below)
    assert limits("/login", request("/api//login/", root_path="/api/"))
    assert limits("/", request("/api", root_path="/api"))
    assert not limits("/login", request("/apilogin", root_path="/api"))


def test_an_escaped_slash_is_read_both_ways() -> None:
    scope = request("/users/a/b/export", raw_path=b"/users/a%2fb/export")
    assert limits("/users/{id}/export", scope)
    assert limits("/users/{a}/{b}/export", scope)


def test_an_exemption_holds_for_the_spellings_of_its_own_route_only() -> None:
    assert exempts("/health", request("//health/"))
    assert exempts("GET /health", request("/health", "head"))
    assert not exempts("/public/{name}", request("/public/a/secret", raw_path=b"/public/a%2Fsecret"))
    assert not exempts("/public/{name}", request("/public/a", raw_path=b"/public%2Fa"))
    assert not exempts("/a/{x}/c", request("/a//c"))
    assert not exempts("/a/c", request("/a//c"))
    assert exempts("/static/*", request("/static/"))
    assert not exempts("/static/*", request("/static"))
    assert not exempts("/health", request("/HEALTH"))
    assert exempts("/health", request("/HEALTH"), Routing(ignores_case=True))


def test_falcon_lets_the_last_parameter_be_empty() -> None:
    assert limits("/users/{id}", request("/users/"), Routing(fills_segments=True))


def test_a_websocket_is_a_get() -> None:
    assert limits("GET /chat", {"type": "websocket", "path": "/chat"})


def test_a_predicate_takes_paths_and_functions() -> None:
    assert request_predicate(None, OPTION, exempts=True) is None
    function = lambda scope: True  # noqa: E731
    assert request_predicate(function, OPTION, exempts=True) is function
    several = request_predicate(["/a", "POST /b"], OPTION, exempts=False)
    assert several is not None
    assert [several(request(path)) for path in ("/a", "/b", "/A/")] == [True, False, True]
    with pytest.raises(flexmw.ConfigError):
        request_predicate(7, OPTION, exempts=True)


async def _yields_later(scope: object) -> AsyncIterator[bool]:
    yield False


def _yields(scope: object) -> Iterator[bool]:
    yield False


@pytest.mark.parametrize("function", [_yields, _yields_later])
def test_a_function_that_yields_decides_nothing(function: Any) -> None:
    """What it returns is true, whatever it yields: a dependency of FastAPI would let every credential pass."""
    options: list[Callable[[], object]] = [
        lambda: RateLimit("5/minute", exempt=function).asgi(responding()),
        lambda: Idempotency(exempt=function),
        lambda: Idempotency(required=function),
        lambda: Idempotency(authenticated=function),
    ]
    for make in options:
        with pytest.raises(flexmw.ConfigError, match="always be true"):
            make()
