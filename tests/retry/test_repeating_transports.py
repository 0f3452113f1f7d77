"""Transports below Retry that send a request again by themselves."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import httpx2
import pytest

import flexmw
from flexmw.testing import HostileServer
from tests.retry.outcomes import outcome

libraries = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])


def blocking(library: Any) -> Any:
    class Again(library.BaseTransport):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            self._transport = library.HTTPTransport()

        def handle_request(self, request: Any) -> Any:
            for last in (False, False, True):
                try:
                    response = self._transport.handle_request(request)
                    if last or response.status_code not in (401, 429, 500, 503):
                        return response
                    response.close()
                    request.headers["authorization"] = "Bearer new"
                except library.TransportError:
                    if last:
                        raise
            raise AssertionError("not reached")

        def close(self) -> None:
            self._transport.close()

    return Again()


def subclass(library: Any) -> Any:
    class Again(library.HTTPTransport):  # type: ignore[name-defined, misc]
        def handle_request(self, request: Any) -> Any:
            for _ in range(2):
                try:
                    return super().handle_request(request)
                except library.TransportError:
                    pass
            return super().handle_request(request)

    return Again()


def in_a_transport_of_ours(library: Any) -> Any:
    return getattr(flexmw, library.__name__).Transport(flexmw.Tagging(), transport=blocking(library))


def over_a_client(library: Any) -> Any:
    class Again(library.BaseTransport):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            self._client = library.Client()

        def handle_request(self, request: Any) -> Any:
            try:
                return self._client.send(request, stream=True)
            except library.TransportError:
                return self._client.send(request, stream=True)

        def close(self) -> None:
            self._client.close()

    return Again()


def by_a_closure(library: Any) -> Any:
    transport = blocking(library)

    class Again(library.BaseTransport):  # type: ignore[name-defined, misc]
        def handle_request(self, request: Any) -> Any:
            return transport.handle_request(request)

        def close(self) -> None:
            transport.close()

    return Again()


MAKERS: list[Callable[[Any], Any]] = [blocking, subclass, in_a_transport_of_ours, over_a_client, by_a_closure]


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
@libraries
def test_a_lost_post_is_executed_once_over_a_transport_that_retries(
    library: Any, make: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    transport = getattr(flexmw, library.__name__).Transport(flexmw.Retry(), transport=make(library))
    with HostileServer("fin") as server, library.Client(transport=transport) as client:
        for _ in range(2):
            with pytest.raises(library.TransportError, match="kept a transport from sending it again") as caught:
                client.post(server.url, json={})
            assert (outcome(caught.value).outcome, outcome(caught.value).reason) == ("ambiguous", "unsafe_method")
        assert server.executions == 2
    lines = [line for line in caplog.messages if "sends requests again by itself (its response was lost)" in line]
    assert len(lines) == 1


@libraries
def test_a_lost_post_is_executed_once_over_an_adopted_transport_that_retries(library: Any) -> None:
    class Again(library.BaseTransport):  # type: ignore[name-defined, misc]
        def __init__(self, transport: Any) -> None:
            self._transport = transport

        def handle_request(self, request: Any) -> Any:
            try:
                return self._transport.handle_request(request)
            except library.TransportError:
                return self._transport.handle_request(request)

        def close(self) -> None:
            self._transport.close()

    client = flexmw.wrap_client(library.Client(), flexmw.Retry(), flexmw.adopt(Again))
    with HostileServer("fin") as server, client:
        with pytest.raises(library.TransportError, match="kept a transport from sending it again"):
            client.post(server.url, json={})
        assert server.executions == 1


@pytest.mark.parametrize(("fault", "executions"), [("cut-body", 1), ("429:seconds=0", 1)])
@libraries
def test_a_post_whose_body_broke_is_not_repeated_by_a_transport_that_reads_it(
    library: Any, fault: str, executions: int
) -> None:
    class Reading(library.BaseTransport):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            self._transport = library.HTTPTransport()

        def handle_request(self, request: Any) -> Any:
            try:
                response = self._transport.handle_request(request)
                response.read()
                if response.status_code < 400:
                    return response
            except library.TransportError:
                pass
            return self._transport.handle_request(request)

        def close(self) -> None:
            self._transport.close()

    with HostileServer([fault]) as server, library.Client(transport=Reading()) as client:
        flexmw.wrap_client(client, flexmw.Retry())
        if fault == "cut-body":
            with pytest.raises(library.TransportError, match="its response was lost"):
                client.post(server.url, json={})
        else:
            assert client.post(server.url, json={}).status_code == 200
        assert server.executions == executions


@pytest.mark.parametrize("deadline", [None, 30.0])
@libraries
def test_a_lost_post_is_executed_once_over_an_async_transport_that_retries(
    library: Any, deadline: float | None
) -> None:
    class Again(library.AsyncBaseTransport):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            self.transports = [library.AsyncHTTPTransport(), library.AsyncHTTPTransport()]

        async def handle_async_request(self, request: Any) -> Any:
            first, second = self.transports
            try:
                return await first.handle_async_request(request)
            except library.TransportError:
                return await second.handle_async_request(request)

        async def aclose(self) -> None:
            for transport in self.transports:
                await transport.aclose()

    async def call(url: str) -> Any:
        async with library.AsyncClient(transport=Again()) as client:
            flexmw.wrap_client(client, flexmw.Retry(deadline=deadline))
            with pytest.raises(library.TransportError) as caught:
                await client.post(url, json={})
            return outcome(caught.value)

    with HostileServer("fin") as server:
        assert anyio.run(call, server.url).outcome == "ambiguous"
        assert server.executions == 1


@pytest.mark.parametrize(
    ("script", "options", "executions"),
    [
        (["500"], {}, 1),
        (["500"], {"idempotent": True}, 2),
        (["401"], {}, 1),
        (["429:seconds=0"], {}, 1),
        (["fin"], {"idempotent": True}, 2),
    ],
)
@libraries
def test_only_a_post_that_may_have_been_executed_is_kept_back(
    library: Any, script: list[str], options: dict[str, Any], executions: int
) -> None:
    with HostileServer(script) as server, library.Client(transport=blocking(library)) as client:
        flexmw.wrap_client(client, flexmw.Retry(**options))
        if script == ["500"] and not options:
            with pytest.raises(library.TransportError, match="its response was a 500"):
                client.post(server.url, json={})
        else:
            assert client.post(server.url, json={}).status_code == 200
        assert server.executions == executions


@libraries
def test_a_get_that_a_transport_repeats_is_sent_and_the_log_says_once_that_attempts_multiply(
    library: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "flexmw.retry")
    with HostileServer(["fin", "fin"]) as server, library.Client(transport=blocking(library)) as client:
        flexmw.wrap_client(client, flexmw.Retry())
        assert client.get(server.url).status_code == 200
    [line] = caplog.messages
    assert "attempts multiply; switch its retries off" in line


@libraries
def test_another_request_of_the_same_transport_is_no_repetition(library: Any) -> None:
    class Fetching(library.BaseTransport):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            self._transport = library.HTTPTransport()

        def handle_request(self, request: Any) -> Any:
            try:
                token = library.Request("POST", request.url.join("/token"), extensions=request.extensions)
                self._transport.handle_request(token)
            except library.TransportError:
                pass
            return self._transport.handle_request(request)

        def close(self) -> None:
            self._transport.close()

    with HostileServer(["fin"]) as server, library.Client(transport=Fetching()) as client:
        flexmw.wrap_client(client, flexmw.Retry())
        assert client.post(f"{server.url}/jobs", json={}).status_code == 200


def test_a_request_that_http2_sends_again_because_the_server_did_not_process_it_is_no_repetition(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Subclass(httpx.HTTPTransport):
        pass

    with HostileServer(["refused-stream"], tls=True, http2=True) as server:
        transport = Subclass(http2=True, verify=server.client_context())
        with flexmw.wrap_client(httpx.Client(transport=transport), flexmw.Retry()) as client:
            assert client.post(server.url, json={}).status_code == 200
        assert server.executions == 1
    assert not [line for line in caplog.messages if "again by itself" in line]
