"""Errors of the packages below a client library that the library lets through: they are lost responses too."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from httpx_aiohttp import HttpxAiohttpClient

import flexmw
from flexmw.testing import FakeClock, HostileServer
from flexmw.testing.hostile import Exchange, Fault
from tests.clients.wires import WIRES, Wire
from tests.retry.outcomes import outcome

wires = pytest.mark.parametrize("wire", WIRES, ids=str)


@dataclass(frozen=True)
class DamagedRecord(Fault):
    """Executes, then sends a TLS record that nobody can decrypt.

    :param in_body: the record comes after the head and a piece of the body.
    """

    in_body: bool = False

    def run(self, exchange: Exchange) -> None:
        exchange.execute()
        if self.in_body:
            exchange.start(200, (), 10)
            exchange.send(b"abc")
        wire: Any = exchange._wire  # type: ignore[attr-defined]
        os.write(wire._sock.fileno(), b"\x17\x03\x03\x00\x20" + b"x" * 32)
        exchange.pause(None)


def call(wire: Wire, method: str, fault: Fault) -> tuple[Any, int]:
    clock = FakeClock()
    with HostileServer([fault], tls=True) as server:
        options = {"verify": server.client_context()}
        [result] = wire.call(method, server.url, flexmw.Retry(clock=clock), clock=clock, client=options)
        return result, server.executions


@wires
def test_a_damaged_tls_record_in_place_of_a_response_is_a_lost_response(wire: Wire) -> None:
    response, _ = call(wire, "GET", DamagedRecord())
    assert (response.status_code, outcome(response).attempts) == (200, 2)
    error, executions = call(wire, "POST", DamagedRecord())
    assert (outcome(error).outcome, outcome(error).reason, executions) == ("ambiguous", "unsafe_method", 1)


@wires
def test_a_damaged_tls_record_in_a_body_leaves_an_outcome_on_the_error(wire: Wire) -> None:
    error, executions = call(wire, "POST", DamagedRecord(in_body=True))
    assert (outcome(error).outcome, outcome(error).reason, executions) == ("ambiguous", "unsafe_method", 1)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_response_over_aiohttp_that_is_not_http_is_a_lost_response(method: str) -> None:
    clock = FakeClock()

    async def run(url: str) -> Any:
        async with flexmw.wrap_client(HttpxAiohttpClient(), flexmw.Retry(clock=clock), clock=clock) as client:
            try:
                return await client.request(method, url)
            except Exception as error:
                return error

    with HostileServer(["garbage"]) as server:
        result = anyio.run(run, server.url)
        if method == "GET":
            assert (result.status_code, outcome(result).attempts) == (200, 2)
        else:
            assert (outcome(result).outcome, server.executions) == ("ambiguous", 1)


def of(module: str, *names: str) -> type[Exception]:
    cls: type[Exception] = Exception
    for name in names:
        cls = type(name, (cls,), {"__module__": module})
    return cls


@wires
@pytest.mark.parametrize("error", [of("socksio.exceptions", "SOCKSError", "ProtocolError")("bad reply")], ids=repr)
def test_a_socks_proxy_that_sends_nonsense_is_an_error_of_the_transport(wire: Wire, error: Exception) -> None:
    requests: list[Any] = []

    def fail(request: Any) -> Any:
        requests.append(request)
        if len(requests) == 1:
            raise error
        return wire.library.Response(200)

    clock = FakeClock()
    options = {"transport": wire.library.MockTransport(fail)}
    [result] = wire.call("GET", "http://test", flexmw.Retry(clock=clock), clock=clock, client=options)
    assert (result.status_code, outcome(result).attempts) == (200, 2)


@pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda library: library.__name__)
@pytest.mark.parametrize("headers", [{}, {"x-stainless-retry-count": "0"}], ids=["plain", "below-an-sdk"])
def test_an_error_of_which_no_attribute_can_be_read_reaches_the_caller(library: Any, headers: dict[str, str]) -> None:
    class Unreadable(library.ReadError):  # type: ignore[misc,name-defined]
        def __init__(self) -> None: ...

        def __getattribute__(self, name: str) -> Any:
            if name == "__traceback__":  # pytest and the client library read it
                return None
            raise RuntimeError(name)

    raised: list[Exception] = []

    def lose(request: Any) -> Any:
        raised.append(Unreadable())
        raise raised[-1]

    for method, said, attempts in (("POST", "ambiguous", 1), ("GET", "ambiguous", 3)):
        clock, caught = FakeClock(), None
        transport = library.MockTransport(lose)
        with flexmw.wrap_client(library.Client(transport=transport), flexmw.Retry(clock=clock), clock=clock) as client:
            try:
                client.request(method, "http://lost.example/", headers=headers)
            except Exception as error:
                caught = error
        assert caught is raised[-1]
        known = flexmw.outcome_of(caught)
        assert known is not None
        assert (known.outcome, known.attempts) == (said, attempts)
