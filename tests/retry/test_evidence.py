"""Proof that a request never left, over TLS, HTTP/2, proxies and transports that tell nothing."""

from __future__ import annotations

import gc
import io
from typing import Any

import pytest

import flexmw
from flexmw.testing import FakeClock, HostileServer
from tests.clients.wires import WIRES, Wire
from tests.retry.outcomes import outcome

pytestmark = pytest.mark.parametrize("wire", WIRES, ids=str)


def post(wire: Wire, server: HostileServer, url: str | None = None, **client: Any) -> Any:
    clock, limit = FakeClock(), client.pop("connect", 20.0)
    client["timeout"] = wire.library.Timeout(20.0, connect=limit)
    [result] = wire.call("POST", url or server.url, flexmw.Retry(clock=clock), clock=clock, client=client, json={})
    return result


@pytest.mark.parametrize(
    ("fault", "executions", "recovers"),
    [("refused-stream", 1, True), ("goaway", 1, True), ("reset-stream", 1, False), ("goaway-late", 1, False)],
)
def test_an_http2_server_that_did_not_process_the_stream(
    wire: Wire, fault: str, executions: int, recovers: bool
) -> None:
    with HostileServer([fault], tls=True, http2=True) as server:
        result = post(wire, server, http2=True, verify=server.client_context())
        assert server.executions == executions
    assert outcome(result).outcome == ("answered" if recovers else "ambiguous")
    assert outcome(result).attempts == (2 if recovers else 1)


@pytest.mark.parametrize(("kind", "exact"), [("file", True), ("iterator", False)])
def test_a_body_that_http2_sends_on_another_stream_is_sent_exactly_or_not_at_all(
    wire: Wire, kind: str, exact: bool
) -> None:
    make: Any = {"file": lambda: io.BytesIO(b"payload"), "iterator": lambda: iter([b"pay", b"load"])}[kind]
    if wire.backend is not None:
        make = Spent if kind == "iterator" else lambda: b"payload"
    bodies = iter([b"", make()])
    clock = FakeClock()
    with HostileServer(["ok", "goaway"], tls=True, http2=True) as server:
        options = {"http2": True, "verify": server.client_context()}
        policy = flexmw.Retry(clock=clock)
        _, result = wire.call(
            "POST", server.url, policy, clock=clock, client=options, times=2, content=lambda: next(bodies)
        )
        sent = [request.body for request in server.executed][1:]
    if exact:
        assert (result.status_code, sent) == (200, [b"payload"])
    else:
        assert (type(result).__name__, sent) == ("StreamConsumed", [])
        assert outcome(result).outcome == "ambiguous"


class Spent:
    """An async iterator that is no generator."""

    def __init__(self) -> None:
        self.left = [b"pay", b"load"]

    def __aiter__(self) -> Spent:
        return self

    async def __anext__(self) -> bytes:
        if not self.left:
            raise StopAsyncIteration
        return self.left.pop(0)


# The ssl module of CPython 3.11 does not close its socket when a reset arrives before the handshake has begun.
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
@pytest.mark.parametrize("fault", ["rst-on-connect", "handshake-hang", "plain-text"])
def test_a_tls_handshake_that_fails_has_sent_nothing(wire: Wire, fault: str) -> None:
    with HostileServer([fault], tls=True) as server:
        limit = 1.0 if fault == "handshake-hang" else 20.0
        result = post(wire, server, verify=server.client_context(), connect=limit)
        assert (result.status_code, server.executions) == (200, 1)
    gc.collect()  # the socket is in the cycle of a traceback: it goes here, and not in another test


def test_a_certificate_that_is_not_trusted_is_not_tried_again(wire: Wire) -> None:
    with HostileServer(tls=True) as server:
        result = post(wire, server)
        assert server.connections == 1
    assert type(result).__name__ == "ConnectError"
    assert (outcome(result).outcome, outcome(result).reason) == ("unsent", "local_error")


def test_a_proxy_that_refuses_the_tunnel_has_sent_nothing(wire: Wire) -> None:
    with HostileServer(["proxy-407"] * 3) as server:
        result = post(wire, server, "https://origin.invalid/v1", proxy=server.url)
        assert [request.method for request in server.requests] == ["CONNECT"] * 3
    assert type(result).__name__ == "ProxyError"
    assert (outcome(result).outcome, outcome(result).attempts) == ("unsent", 3)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("ConnectError", "ambiguous"),
        ("ConnectTimeout", "ambiguous"),
        ("ProxyError", "ambiguous"),
        ("PoolTimeout", "unsent"),
        ("ReadError", "ambiguous"),
    ],
)
def test_without_events_only_an_exhausted_pool_is_proof_by_its_class(wire: Wire, error: str, said: str) -> None:
    def fail(request: Any) -> Any:
        raise getattr(wire.library, error)("no", request=request)

    clock = FakeClock()
    options = {"transport": wire.library.MockTransport(fail)}
    [result] = wire.call("POST", "http://test", flexmw.Retry(clock=clock), clock=clock, client=options)
    assert type(result).__name__ == error
    assert outcome(result).outcome == said
    assert outcome(result).attempts == (3 if said == "unsent" else 1)


def test_a_url_that_nothing_can_fetch_is_not_tried_again(wire: Wire) -> None:
    clock = FakeClock()
    [result] = wire.call("GET", "gopher://test", flexmw.Retry(clock=clock), clock=clock)
    assert type(result).__name__ == "UnsupportedProtocol"
    assert outcome(result).reason == "local_error"
    assert outcome(result).outcome == "unsent"
    assert clock.slept == []
