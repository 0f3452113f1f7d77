"""Classes that know nothing of flexmw, as components."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

import flexmw
from flexmw.adopted import adopt
from flexmw.testing import FakeClock, HostileServer
from flexmw.testing.visit import Visit, http_scope


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def visit(app: Any, *headers: tuple[bytes, bytes]) -> Visit:
    visit = Visit(http_scope(headers=headers))
    anyio.run(visit.run, app)
    return visit


def test_an_asgi_middleware_runs_with_its_options() -> None:
    app = flexmw.wrap_app(hello, flexmw.Envelope(), adopt(CORSMiddleware, allow_origins=["https://a.test"]))
    assert (b"access-control-allow-origin", b"https://a.test") in visit(app, (b"origin", b"https://a.test")).headers


def test_what_an_adopted_middleware_refuses_leaves_in_the_envelope() -> None:
    app = flexmw.wrap_app(hello, flexmw.Envelope(), adopt(TrustedHostMiddleware, allowed_hosts=["a.test"]))
    refused = visit(app, (b"host", b"b.test"))
    assert refused.status == 400
    assert b'"type":"invalid_request_error"' in refused.body


def test_a_function_that_returns_an_app_will_do() -> None:
    def shout(app: Any, *, word: bytes) -> Any:
        async def shouting(scope: Any, receive: Any, send: Any) -> None:
            async def louder(message: Any) -> None:
                await send({**message, "body": word} if "body" in message else message)

            await app(scope, receive, louder)

        return shouting

    assert visit(flexmw.wrap_app(hello, adopt(shout, word=b"HELLO"))).body == b"HELLO"


class Twice:
    """Sends every GET once more, in the style of any transport wrapper; made for httpx."""

    def __init__(self, wrapped_transport: Any, *, mark: str = "twice") -> None:
        self.inner, self.mark = wrapped_transport, mark
        self.closed = False


class SyncTwice(Twice, httpx.BaseTransport):
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.headers["x-mark"] = self.mark
        self.inner.handle_request(request).read()
        response: httpx.Response = self.inner.handle_request(request)
        return response

    def close(self) -> None:
        self.inner.close()
        self.closed = True


class AsyncTwice(Twice, httpx2.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await (await self.inner.handle_async_request(request)).aread()
        response: httpx2.Response = await self.inner.handle_async_request(request)
        return response

    async def aclose(self) -> None:
        await self.inner.aclose()
        self.closed = True


def test_a_transport_wrapper_runs_between_components() -> None:
    clock = FakeClock()
    with HostileServer(["429:seconds=1", "ok", "429:seconds=2", "ok"]) as server:
        client = flexmw.wrap_client(httpx.Client(), adopt(SyncTwice, mark="x"), flexmw.Retry(), clock=clock)
        with client:
            assert client.get(server.url).status_code == 200
        assert server.executions == 2, "each of its two sends was retried on its own, further inward"
        assert [request.header("x-mark") for request in server.requests] == ["x"] * 4
    assert [round(seconds) for seconds in clock.slept] == [1, 2]


def test_components_outside_a_transport_wrapper_still_see_what_the_network_did() -> None:
    client = flexmw.wrap_client(httpx.Client(), flexmw.Retry(), adopt(SyncTwice), clock=FakeClock())
    with (
        HostileServer(["ok", "rst-unread"], then="ok") as server,
        client,
        pytest.raises(httpx.TransportError) as caught,
    ):
        client.post(server.url, json={})
    assert caught.value.flexmw.outcome == "ambiguous"  # type: ignore[attr-defined]


def test_an_async_transport_wrapper_runs_too_and_is_closed() -> None:
    async def calls(url: str) -> Any:
        async with flexmw.wrap_client(httpx2.AsyncClient(), flexmw.Retry(), adopt(AsyncTwice)) as client:
            assert (await client.get(url)).status_code == 200
        transport: Any = client._transport
        return transport.wrapped.closed

    with HostileServer("200") as server:
        assert anyio.run(calls, server.url) is True
        assert server.executions == 2


@pytest.mark.parametrize(
    ("client", "adopted", "words"),
    [
        (httpx2.Client, SyncTwice, r"a subclass of httpx2\.BaseTransport with `handle_request`"),
        (httpx.AsyncClient, SyncTwice, r"a subclass of httpx\.AsyncBaseTransport with `handle_async_request`"),
        (httpx.AsyncClient, AsyncTwice, r"a subclass of httpx\.AsyncBaseTransport"),
    ],
)
def test_a_transport_of_another_library_or_colour_is_refused(client: Any, adopted: Any, words: str) -> None:
    with pytest.raises(flexmw.ConfigError, match=words):
        flexmw.wrap_client(client(), adopt(adopted))


def test_a_client_with_nothing_but_an_adopted_transport_counts_as_wrapped() -> None:
    client = flexmw.wrap_client(httpx.Client(), adopt(SyncTwice))
    with client, pytest.raises(flexmw.ConfigError, match="not wrapped yet"):
        flexmw.wrap_client(client)


def test_an_adopted_transport_cannot_be_driven_as_a_flow() -> None:
    with pytest.raises(flexmw.ConfigError, match="wrap_client"):
        adopt(SyncTwice).flow(httpx.Request("GET", "https://api.test"))  # type: ignore[union-attr]


class NoApp:
    """A class that takes no app."""

    def __init__(self, *, option: int = 1) -> None: ...

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class NotCalled:
    """A class whose objects are no app."""

    def __init__(self, app: Any) -> None: ...


class Alone(httpx.BaseTransport):
    """A transport that wraps none."""

    def __init__(self, retries: int = 0) -> None: ...


class Needs:
    """A middleware that must be told something."""

    def __init__(self, app: Any, secret: str) -> None: ...

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


@pytest.mark.parametrize(
    ("cls", "options", "words"),
    [
        (CORSMiddleware(hello), {}, "a middleware or transport class, not an object"),
        (Middleware(CORSMiddleware), {}, r"flexmw\.adopt\(m\.cls, \*\*m\.kwargs\)"),
        (NoApp, {}, r"adopt\(NoApp\).*an ASGI middleware"),
        (NotCalled, {}, r"adopt\(NotCalled\).*an ASGI middleware"),
        (Alone, {}, r"adopt\(Alone\).*a transport that wraps another"),
        (Needs, {}, r"adopt\(Needs\): options.*expected also secret"),
        (Needs, {"secret": "s", "app": hello}, r"adopt\(Needs\): option = 'app': expected no option 'app': flexmw"),
        (CORSMiddleware, {"allow_origin": "*"}, "one of allow_credentials, .*allow_origins"),
        (SyncTwice, {"marks": 1}, r"adopt\(SyncTwice\): option = 'marks': expected one of mark"),
    ],
)
def test_what_cannot_be_adopted_is_named(cls: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(flexmw.ConfigError, match=words):
        adopt(cls, **options)


def test_it_can_be_given_a_name_and_a_place() -> None:
    cors: Any = replace(adopt(CORSMiddleware), name="acme.cors", order=flexmw.Order(before=("envelope",)))
    with pytest.raises(flexmw.ConfigError, match=r"right is: acme\.cors, envelope"):
        flexmw.wrap_app(hello, flexmw.Envelope(), cors)
    with pytest.raises(FrozenInstanceError):
        cors.name = "other"


def test_its_options_are_not_shown() -> None:
    stack = flexmw.Stack(adopt(Needs, secret="sw0rdfish"))
    assert "sw0rdfish" not in f"{stack!r} {stack.describe()}"
    assert stack.describe()[0]["faces"] == ["server"]
