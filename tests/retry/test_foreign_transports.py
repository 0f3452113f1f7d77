"""Transports that report no events: nothing is proven unsent unless a cause at hand proves it."""

from __future__ import annotations

import copy
import inspect
import socket
import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

import anthropic
import anyio
import httpcore
import httpx
import httpx2
import openai
import pytest
import requests
from httpx_aiohttp import HttpxAiohttpClient

import flexmw
from flexmw.errors import ConfigError
from flexmw.kit.evidence import is_transport_error
from flexmw.testing import FakeClock, HostileServer
from flexmw.testing.hostile import closed_port
from tests.clients.wires import WIRES, Wire
from tests.retry.outcomes import outcome
from tests.waiting import LONGEST_WAIT

LOST = ["rst", "fin", "cut-head"]
MESSAGES: Any = [{"role": "user", "content": "hello"}]

BRIDGES: dict[str, Callable[[], Any]] = {
    "openai": openai.DefaultAioHttpClient,
    "anthropic": anthropic.DefaultAioHttpClient,
    "httpx-aiohttp": HttpxAiohttpClient,
}
bridges = pytest.mark.parametrize("bridge", list(BRIDGES))


def post(bridge: str, url: str, clock: FakeClock, *components: Any, times: int = 1) -> list[Any]:
    async def run() -> list[Any]:
        results: list[Any] = []
        parts = components or (flexmw.Retry(clock=clock),)
        async with flexmw.wrap_client(BRIDGES[bridge](), *parts, clock=clock) as client:
            for _ in range(times):
                try:
                    results.append(await client.post(url, json={"n": 1}))
                except (httpx.HTTPError, httpx2.HTTPError) as error:
                    results.append(error)
        return results

    return anyio.run(run)


@bridges
@pytest.mark.parametrize("fault", LOST)
def test_a_lost_response_over_aiohttp_is_ambiguous(bridge: str, fault: str) -> None:
    clock = FakeClock()
    with HostileServer(then=fault) as server:
        [error] = post(bridge, server.url, clock)
        assert server.executions == 1
    assert (outcome(error).outcome, outcome(error).attempts) == ("ambiguous", 1)


@bridges
@pytest.mark.parametrize("url", ["refused", "http://no-such-host.invalid/"])
def test_a_refused_connection_and_an_unknown_name_are_proof_over_aiohttp_too(bridge: str, url: str) -> None:
    clock = FakeClock()
    with closed_port() as refused:
        [error] = post(bridge, refused if url == "refused" else url, clock)
    assert (outcome(error).outcome, outcome(error).attempts) == ("unsent", 3)


@bridges
def test_a_refusal_over_aiohttp_is_sent_again(bridge: str) -> None:
    clock = FakeClock()
    with HostileServer(["429:seconds=1"]) as server:
        [response] = post(bridge, server.url, clock)
        assert (response.status_code, server.executions, len(server.requests)) == (200, 1, 2)


@bridges
def test_a_lost_response_over_aiohttp_stays_ambiguous_beside_pace(bridge: str) -> None:
    clock = FakeClock()
    with HostileServer(then="fin") as server:
        [error] = post(bridge, server.url, clock, flexmw.Retry(clock=clock), flexmw.Pace(clock=clock))
        assert (server.executions, outcome(error).outcome) == (1, "ambiguous")


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
@pytest.mark.parametrize("retries", [0, 2])
def test_an_sdk_over_its_aiohttp_client_executes_once(sdk: str, retries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{sdk}._base_client.INITIAL_RETRY_DELAY", 0.005)

    async def run(url: str) -> None:
        http = flexmw.wrap_client(BRIDGES[sdk]())
        if sdk == "openai":
            async with openai.AsyncOpenAI(
                api_key="k", base_url=f"{url}/v1", http_client=http, max_retries=retries
            ) as ai:
                await ai.chat.completions.create(model="m", messages=MESSAGES)
        else:
            async with anthropic.AsyncAnthropic(api_key="k", base_url=url, http_client=http, max_retries=retries) as an:
                await an.messages.create(model="m", max_tokens=9, messages=MESSAGES)

    with HostileServer(then="fin") as server:
        with pytest.raises((openai.APIConnectionError, anthropic.APIConnectionError)):
            anyio.run(run, server.url)
        assert server.executions == 1


def own_error(library: Any) -> dict[str, Callable[[str], BaseException]]:
    """The errors that an app lets through from an outgoing call of its own."""

    def raised_by(call: Callable[[], Any]) -> BaseException:
        try:
            call()
        except Exception as error:
            return error
        raise AssertionError("the call must fail")

    return {
        "requests": lambda url: raised_by(lambda: requests.get(url, timeout=LONGEST_WAIT)),
        "requests-timeout": lambda url: requests.ConnectTimeout("no"),
        "httpcore": lambda url: raised_by(lambda: httpcore.request("GET", url)),
        "client": lambda url: raised_by(lambda: library.get(url, trust_env=False, timeout=LONGEST_WAIT)),
        "transport": lambda url: raised_by(lambda: library.HTTPTransport().handle_request(library.Request("GET", url))),
        "pool": lambda url: library.PoolTimeout("no"),
        "protocol": lambda url: library.UnsupportedProtocol("no"),
        "gaierror": lambda url: socket.gaierror(-2, "no"),
    }


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_a_second_retry_is_refused_with_another_transport_in_between(library: Any) -> None:
    class Cached(library.BaseTransport):  # type: ignore[name-defined, misc]
        __slots__ = ("_below", "_empty")

        def __init__(self, transport: Any) -> None:
            self._below = transport

    transport = Cached(getattr(flexmw, library.__name__).Transport(flexmw.Retry()))
    client = library.Client(transport=transport)
    with pytest.raises(ConfigError, match="a second one multiplies its attempts"):
        flexmw.wrap_client(client, flexmw.Retry())
    assert client._transport is transport
    flexmw.wrap_client(client, flexmw.Pace())


CONTAINERS: dict[str, Callable[[Any, Any], Any]] = {
    "list": lambda one, other: [one, other],
    "tuple": lambda one, other: (one, other),
    "dict": lambda one, other: {"one": one, "other": other},
    "pairs": lambda one, other: [(1, one), (2, other)],
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_a_second_retry_is_refused_among_the_transports_of_a_container(library: Any, container: str) -> None:
    class First(library.BaseTransport):  # type: ignore[name-defined, misc]
        def __init__(self, transports: Any) -> None:
            self._transports = transports

    retrying = getattr(flexmw, library.__name__).Transport(flexmw.Retry())
    client = library.Client(transport=First(CONTAINERS[container](library.HTTPTransport(), retrying)))
    with pytest.raises(ConfigError, match="a second one multiplies its attempts; a transport that only fetches tokens"):
        flexmw.wrap_client(client, flexmw.Retry())


def test_what_a_transport_keeps_in_endless_containers_is_not_searched_for_ever() -> None:
    class Endless(httpx.BaseTransport):
        def __init__(self) -> None:
            self.own: list[Any] = [self, {}]
            self.own.append(self.own)
            self.store = dict.fromkeys(range(1000), 0)

    flexmw.wrap_client(httpx.Client(transport=Endless()), flexmw.Retry())


def test_no_method_of_a_container_runs_in_the_search_for_a_second_retry() -> None:
    class Rows(list[Any]):
        def __iter__(self) -> Any:
            raise ValueError("nothing reads the rows")

    class Lazy(dict[str, Any]):
        def values(self) -> Any:
            raise ValueError("nothing reads the values")

    class Holding(httpx.BaseTransport):
        def __init__(self, retrying: Any) -> None:
            self.containers = [Rows(), mock.Mock(spec=dict), Lazy(below=retrying)]

    flexmw.wrap_client(httpx.Client(transport=Holding(None)), flexmw.Retry())
    with pytest.raises(ConfigError, match="a second one multiplies its attempts"):
        flexmw.wrap_client(httpx.Client(transport=Holding(flexmw.httpx.Transport(flexmw.Retry()))), flexmw.Retry())


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_an_app_in_this_process_is_found_in_a_container(library: Any) -> None:
    def app(environ: Any, start: Any) -> Any:
        raise AssertionError("nothing calls the app")

    class First(library.BaseTransport):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            self._transports = [library.WSGITransport(app)]

    assert getattr(flexmw, library.__name__).Transport(flexmw.Retry(), transport=First())._in_process


@pytest.mark.parametrize("is_async", [False, True], ids=["blocking", "async"])
@pytest.mark.parametrize(("library", "other"), [(httpx, httpx2), (httpx2, httpx)], ids=["httpx", "httpx2"])
def test_a_transport_in_a_client_of_the_other_library_is_refused_before_anything_is_sent(
    library: Any, other: Any, is_async: bool
) -> None:
    name = "AsyncTransport" if is_async else "Transport"
    transport = getattr(getattr(flexmw, other.__name__), name)(flexmw.Retry())

    kind = "AsyncClient" if is_async else "Client"

    async def post(client: Any, url: str) -> Any:
        try:
            return await client.post(url)
        finally:
            await transport.wrapped.aclose()

    def call(client: Any, url: str) -> Any:
        return anyio.run(post, client, url) if is_async else client.post(url)

    with HostileServer() as server:
        for _ in range(2):
            with pytest.raises(ConfigError, match=rf"expected a transport of {library.__name__}, as the client is"):
                call(getattr(library, kind)(transport=transport), server.url)
        assert server.connections == 0
        assert call(getattr(other, kind)(transport=transport), server.url).status_code == 200
    if not is_async:
        transport.close()


def test_a_client_of_httpx2_under_the_name_of_httpx_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", httpx2)
    transport = flexmw.httpx2.Transport(flexmw.Retry(), transport=httpx2.MockTransport(lambda _: httpx2.Response(200)))
    assert httpx2.Client(transport=transport).get("http://a/").status_code == 200


def test_the_first_requests_of_a_transport_may_come_from_several_threads() -> None:
    transport = flexmw.httpx.Transport(flexmw.Retry(), transport=httpx.MockTransport(lambda _: httpx.Response(200)))
    first_call = transport.handle_request  # what each of two threads has read before the other has called it
    for _ in range(2):
        assert first_call(httpx.Request("GET", "http://a/")).status_code == 200


def test_a_copy_of_a_transport_does_not_send_by_the_original() -> None:
    transport = flexmw.httpx.Transport(flexmw.Retry(), transport=httpx.MockTransport(lambda _: httpx.Response(500)))
    twin = copy.copy(transport)
    twin.wrapped = httpx.MockTransport(lambda _: httpx.Response(200))
    assert twin.handle_request(httpx.Request("GET", "http://a/")).status_code == 200


def test_an_instrumentation_of_a_transport_stays_after_the_first_request() -> None:
    """The instrumentation of OpenTelemetry wraps the method by wrapt, whose wrapper is equal to what it wraps."""

    class Wrapper:
        def __init__(self, wrapped: Any) -> None:
            self.wrapped = wrapped
            self.calls = 0

        def __call__(self, request: Any) -> Any:
            self.calls += 1
            return self.wrapped(request)

        def __eq__(self, other: object) -> bool:
            return bool(self.wrapped == other)

        __hash__ = None  # type: ignore[assignment]

    transport = flexmw.httpx.Transport(flexmw.Retry(), transport=httpx.MockTransport(lambda _: httpx.Response(200)))
    wrapper = transport.__dict__["handle_request"] = Wrapper(transport.handle_request)
    with httpx.Client(transport=transport) as client:
        assert [client.get("http://a/").status_code for _ in range(3)] == [200] * 3
    assert wrapper.calls == 3


def test_the_method_of_an_async_transport_is_a_coroutine_function_before_its_first_request() -> None:
    assert inspect.iscoroutinefunction(flexmw.httpx.AsyncTransport(flexmw.Retry()).handle_async_request)


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_a_transport_that_chooses_by_the_host_may_have_a_retry_below_each_choice(library: Any) -> None:
    class ByHost(library.BaseTransport):  # type: ignore[name-defined, misc]
        def __init__(self, *transports: Any) -> None:
            self.one, self.other = transports

    retrying = getattr(flexmw, library.__name__).Transport
    transport = ByHost(retrying(flexmw.Retry()), retrying(flexmw.Retry()))
    retrying(flexmw.Tagging(), transport=transport)
    with pytest.raises(ConfigError, match="a second one multiplies its attempts"):
        retrying(flexmw.Retry(), transport=transport)


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_a_refused_connection_beside_an_app_in_this_process_is_unsent(library: Any) -> None:
    class ByHost(library.AsyncBaseTransport):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            self.app, self.network = library.ASGITransport(None), library.AsyncHTTPTransport()

        async def handle_async_request(self, request: Any) -> Any:
            return await self.network.handle_async_request(request)

    async def run(url: str) -> Any:
        transport = getattr(flexmw, library.__name__).AsyncTransport(flexmw.Retry(attempts=1), transport=ByHost())
        with pytest.raises(library.ConnectError) as caught:
            await transport.handle_async_request(library.Request("POST", url))
        return outcome(caught.value)

    with closed_port() as refused:
        assert anyio.run(run, refused).outcome == "unsent"


@pytest.mark.parametrize("name", list(own_error(httpx)))
@pytest.mark.parametrize("kind", ["asgi", "wsgi", "nested"])
@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_an_app_in_this_process_has_worked_whatever_error_it_lets_through(library: Any, kind: str, name: str) -> None:
    clock, ran = FakeClock(), 0
    with closed_port() as refused:
        error = own_error(library)[name](refused)

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        nonlocal ran
        ran += 1
        raise error

    def wsgi(environ: Any, start: Any) -> Any:
        nonlocal ran
        ran += 1
        raise error

    class Cached(library.AsyncBaseTransport):  # type: ignore[name-defined, misc]
        def __init__(self, transport: Any) -> None:
            self._below = transport  # a name of its own: libraries agree on none

        async def handle_async_request(self, request: Any) -> Any:
            return await self._below.handle_async_request(request)

    async def run() -> None:
        inner = library.ASGITransport(asgi)
        transport = Cached(inner) if kind == "nested" else inner
        policy = flexmw.Retry(clock=clock)
        async with flexmw.wrap_client(library.AsyncClient(transport=transport), policy, clock=clock) as client:
            await client.post("http://app/", json={})

    def call() -> None:
        if kind == "wsgi":
            client = library.Client(transport=library.WSGITransport(wsgi))
            with flexmw.wrap_client(client, flexmw.Retry(clock=clock), clock=clock):
                client.post("http://app/", json={})
        else:
            anyio.run(run)

    with pytest.raises(type(error)) as caught:
        call()
    assert ran == 1
    if is_transport_error(error):
        assert (outcome(caught.value).outcome, outcome(caught.value).attempts) == ("ambiguous", 1)
    else:
        assert not hasattr(caught.value, "flexmw")


@pytest.mark.parametrize("wire", WIRES, ids=str)
@pytest.mark.parametrize("cause", [ConnectionRefusedError(111, "refused"), socket.gaierror(-2, "unknown")], ids=repr)
def test_a_cause_at_hand_proves_that_nothing_was_sent(wire: Wire, cause: OSError) -> None:
    def fail(request: Any) -> Any:
        raise wire.library.ConnectError("no", request=request) from cause

    clock = FakeClock()
    options = {"transport": wire.library.MockTransport(fail)}
    [result] = wire.call("POST", "http://test", flexmw.Retry(clock=clock), clock=clock, client=options)
    assert (outcome(result).outcome, outcome(result).attempts) == ("unsent", 3)
