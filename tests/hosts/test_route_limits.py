"""``flexmw.limit`` inside each framework: after authentication, by the template of the route, with the same headers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException
from litestar import Litestar, get
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException
from quart import Quart
from quart import request as quart_request
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser, requires
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import flexmw
from flexmw.errors import ConfigError

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

Limit = Callable[..., Any]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


async def authenticated(request: Request) -> str:
    """A dependency of FastAPI."""
    if "authorization" not in request.headers:
        raise HTTPException(401)
    request.state.user = request.headers["authorization"]
    return request.headers["authorization"]


def fastapi_dependency(limited: Any) -> Any:

    app = FastAPI()

    @app.get("/users/{user}", dependencies=[Depends(authenticated), Depends(limited)])
    async def read(user: str) -> str:
        return user

    @app.get("/other", dependencies=[Depends(authenticated), Depends(limited)])
    def other() -> str:
        return "other"

    return app


def fastapi_decorator(limited: Any) -> Any:

    app = FastAPI()

    @app.get("/users/{user}")
    @limited
    async def read(user: str, token: Annotated[str, Depends(authenticated)]) -> str:
        assert token
        return user

    @app.get("/other", dependencies=[Depends(authenticated)])
    @limited
    def other(request: Request) -> str:
        return request.url.path

    return app


def starlette_decorator(limited: Any) -> Any:

    class Backend(AuthenticationBackend):
        async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser] | None:
            token = conn.headers.get("authorization")
            if token is None:
                return None
            conn.state.user = token
            return AuthCredentials(["user"]), SimpleUser(token)

    @requires("user", status_code=401)
    @limited
    def read(request: Request) -> PlainTextResponse:
        return PlainTextResponse("fine")

    class Other(HTTPEndpoint):
        @requires("user", status_code=401)
        @limited
        async def get(self, request):  # type: ignore[no-untyped-def]
            return PlainTextResponse("fine")

    return Starlette(
        routes=[Route("/users/{user}", read), Route("/other", Other)],
        middleware=[Middleware(AuthenticationMiddleware, backend=Backend())],
    )


def litestar_app(place: str) -> Callable[[Any], Any]:
    def make(limited: Any) -> Any:

        def authenticated(connection: ASGIConnection[Any, Any, Any, Any], handler: Any) -> None:
            if "authorization" not in connection.headers:
                raise NotAuthorizedException
            connection.state.user = connection.headers["authorization"]

        if place == "guard":

            @get("/users/{user:str}", guards=[authenticated, limited])
            async def read(user: str) -> str:
                return user

            @get("/other", guards=[authenticated, limited], sync_to_thread=False)
            def other() -> str:
                return "other"
        elif place == "endpoint":

            @get("/users/{user:str}", guards=[authenticated])
            @limited
            async def read(user: str) -> str:
                return user

            @get("/other", guards=[authenticated])
            @limited
            async def other() -> str:
                return "other"
        else:

            @limited
            @get("/users/{user:str}", guards=[authenticated])
            async def read(user: str) -> str:
                return user

            @limited
            @get("/other", guards=[authenticated], sync_to_thread=False)
            def other() -> str:
                return "other"

        return Litestar([read, other], logging_config=None)

    return make


def quart_decorator(limited: Any) -> Any:

    app = Quart("limited")

    @app.before_request
    async def authenticated() -> Any:
        if "authorization" not in quart_request.headers:
            return "who?", 401
        quart_request.scope.setdefault("state", {})["user"] = quart_request.headers["authorization"]
        return None

    @app.get("/users/<user>")
    @limited
    async def read(user: str) -> str:
        return user

    @app.get("/other")
    @limited
    async def other() -> str:
        return "other"

    return app


HOSTS: dict[str, Callable[[Any], Any]] = {
    "fastapi dependency": fastapi_dependency,
    "fastapi decorator": fastapi_decorator,
    "starlette decorator": starlette_decorator,
    "litestar guard": litestar_app("guard"),
    "litestar endpoint": litestar_app("endpoint"),
    "litestar handler": litestar_app("handler"),
    "quart decorator": quart_decorator,
}


@pytest.mark.parametrize("wrapped", [True, False], ids=["wrapped", "bare"])
@pytest.mark.parametrize("host", HOSTS)
async def test_a_route_has_a_limit_of_its_own_behind_authentication(host: str, wrapped: bool) -> None:
    app = HOSTS[host](flexmw.limit("2/hour", key="state:user"))
    app = flexmw.wrap_app(app) if wrapped else app
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://host") as client:
        for _ in range(3):
            assert (await client.get("/users/1")).status_code == 401, "refused by the framework, and not counted"
        ann, bob = ({"authorization": f"Bearer {name}"} for name in ("ann", "bob"))
        responses = [await client.get(f"/users/{number}", headers=ann) for number in (1, 2, 3)]
        assert [response.status_code for response in responses] == [200, 200, 429]
        remaining = [response.headers.get("x-ratelimit-remaining-requests") for response in responses]
        # Where the endpoint returns no response there is none to add to: a component of flexmw around the app does it.
        has_response = wrapped or host in ("fastapi dependency", "starlette decorator", "quart decorator")
        reported = ["1", "0", "0"] if has_response else [None, None, "0"]
        assert remaining == reported
        assert int(responses[2].headers["retry-after"]) > 3000
        if wrapped:
            assert responses[2].json()["error"]["code"] == "rate_limit_exceeded"
        assert (await client.get("/users/1", headers=bob)).status_code == 200
        assert (await client.get("/other", headers=ann)).status_code == 200


async def test_a_fastapi_route_lists_no_parameter_of_the_limit() -> None:
    limited = flexmw.limit("2/hour")
    for make in (fastapi_dependency, fastapi_decorator):
        operation = make(limited).openapi()["paths"]["/users/{user}"]["get"]
        assert [parameter["name"] for parameter in operation["parameters"]] == ["user"]


async def test_customers_behind_one_address_do_not_use_up_its_new_keys() -> None:
    app = fastapi_dependency(flexmw.limit("1/hour", new_keys_per_address=2))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://host") as client:
        statuses = [
            (await client.get("/users/1", headers={"authorization": f"Bearer {number}"})).status_code
            for number in range(6)
        ]
    assert statuses == [200] * 6


async def test_invented_keys_are_charged_to_their_address() -> None:

    @flexmw.limit("1/hour", new_keys_per_address=2)
    async def login(request: Request) -> None:
        raise HTTPException(401)

    app = Starlette(routes=[Route("/login", login)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://host") as client:
        statuses = [
            (await client.get("/login", headers={"authorization": f"Bearer {number}"})).status_code
            for number in range(5)
        ]
    assert statuses == [401, 401, 401, 429, 429]


@pytest.mark.parametrize(
    "options", [{"concurrency": 2}, {"exempt": "/x"}, {"tokens": "9/day"}, {"limit": {"/x": "1/day"}}, {"lease": 2.0}]
)
def test_an_option_that_needs_the_whole_app_is_refused(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ConfigError, match=rf"limit\({name}="):
        flexmw.limit("1/hour", **options)


def test_what_is_no_endpoint_is_refused() -> None:
    for value in (7, "GET /x", object):
        with pytest.raises(ConfigError, match="an endpoint function"):
            flexmw.limit("1/hour")(value)


async def test_an_endpoint_that_is_called_without_a_request_says_so() -> None:
    @flexmw.limit("1/hour")
    async def endpoint() -> None: ...

    with pytest.raises(ConfigError, match="called for a request"):
        await endpoint()
