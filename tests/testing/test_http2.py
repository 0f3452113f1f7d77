from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, Event, ResponseReceived

from flexmw.errors import ConfigError
from flexmw.testing import HostileServer
from flexmw.testing.hostile import Drip, Drop, ResetStream, Response
from tests.testing.clients import LIBRARIES, RESET, aoutcome, options, outcome
from tests.waiting import LONGEST_WAIT

each_library = pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: str(library.__name__))


@pytest.fixture
def connect(library: Any) -> Callable[..., Any]:
    return lambda server, **extra: library.Client(**options(server, http2=True), **extra)


def root_cause(error: BaseException) -> Any:
    """What httpcore puts into its exception: the h2 event."""
    assert error.__cause__ is not None
    return error.__cause__.args[0]


@each_library
def test_a_stream_that_is_refused_leaves_the_connection_in_use(library: Any, connect: Callable[..., Any]) -> None:
    with HostileServer(["refused-stream", "reset-stream"], http2=True) as server, connect(server) as client:
        for code in (7, 2):
            with pytest.raises(library.RemoteProtocolError) as caught:
                client.post(server.url, content=b"x")
            assert root_cause(caught.value).error_code == code
        assert client.post(server.url, content=b"x").http_version == "HTTP/2"
        assert (server.connections, server.executions) == (1, 2)
        assert [request.stream for request in server.requests] == [1, 3, 5]


@each_library
def test_any_code_can_be_sent(library: Any, connect: Callable[..., Any]) -> None:
    with HostileServer(ResetStream(code=11), http2=True) as server, connect(server) as client:
        with pytest.raises(library.RemoteProtocolError) as caught:
            client.get(server.url)
        assert (root_cause(caught.value).error_code, server.executions) == (11, 1)


@each_library
def test_what_a_goaway_did_not_cover_is_repeated_by_httpcore_itself(connect: Callable[..., Any]) -> None:
    with HostileServer(["ok", "goaway"], http2=True) as server, connect(server) as client:
        assert [client.post(server.url, content=b"x").status_code for _ in range(2)] == [200, 200]
        assert (server.connections, len(server.requests), server.executions) == (2, 3, 2)


@each_library
def test_what_a_goaway_covered_is_lost(library: Any, connect: Callable[..., Any]) -> None:
    with HostileServer(["ok", "goaway-late"], http2=True) as server, connect(server) as client:
        assert client.post(server.url).status_code == 200
        with pytest.raises(library.RemoteProtocolError) as caught:
            client.post(server.url)
        assert (root_cause(caught.value).last_stream_id, server.executions) == (3, 2)


@each_library
def test_a_megabyte_passes_the_flow_control_both_ways(connect: Callable[..., Any]) -> None:
    body = bytes(range(256)) * 4096
    with HostileServer(Response(200, body=body), http2=True) as server, connect(server) as client:
        assert client.post(server.url, content=body).content == body
        assert server.requests[0].body == body


@each_library
def test_a_request_is_recorded_as_over_http1(connect: Callable[..., Any]) -> None:
    with HostileServer(http2=True) as server, connect(server) as client:
        client.put(f"{server.url}/a?b=c", content=b"x", headers={"X-One": "1"})
        (request,) = server.requests
        assert (request.method, request.path, request.query, request.body) == ("PUT", "/a", "b=c", b"x")
        assert (request.header("x-one"), request.header("host")) == ("1", f"127.0.0.1:{server.port}")


@each_library
def test_a_head_request_gets_the_head_alone_over_http2(connect: Callable[..., Any]) -> None:
    with HostileServer(http2=True) as server, connect(server) as client:
        response = client.head(server.url)
        assert (response.status_code, response.content) == (200, b"")


@each_library
def test_half_a_request_is_enough_to_drop_it(connect: Callable[..., Any]) -> None:
    with HostileServer(Drop(when="reading"), http2=True) as server, connect(server) as client:
        assert outcome(lambda: client.post(server.url, content=b"x" * 100)) in RESET
        assert [(len(request.body), request.complete) for request in server.requests] == [(50, False)]
        assert server.executions == 0


@each_library
def test_streams_of_one_connection_do_not_wait_for_each_other(library: Any) -> None:
    async def main(server: HostileServer) -> list[int | str]:
        seen: list[int | str] = []

        async def call(path: str) -> None:
            seen.append(await aoutcome(lambda: client.get(server.url + path)))

        async with library.AsyncClient(**options(server, http2=True)) as client, anyio.create_task_group() as group:
            assert await aoutcome(lambda: client.get(server.url)) == 200
            group.start_soon(call, "/slow")
            await anyio.to_thread.run_sync(server.wait_for, 2)
            await call("/fast")
        return seen

    slow = Drip(response=Response(503, body=b"x" * 10), size=1, interval=0.02)
    with HostileServer(lambda request: slow if request.path == "/slow" else None, http2=True) as server:
        assert anyio.run(main, server) == [200, 503]
        assert server.connections == 1


@each_library
def test_a_call_that_times_out_resets_its_stream_or_connection(library: Any) -> None:
    with HostileServer(["hang"], http2=True) as server:
        with library.Client(**options(server, http2=True, hangs="read")) as client:
            assert outcome(lambda: client.post(server.url)) == "ReadTimeout"
        server.wait_for(1, "closed")
        assert server.executions == 1


@each_library
def test_leaving_the_block_ends_hung_streams(connect: Callable[..., Any]) -> None:
    with HostileServer("hang", http2=True) as server, connect(server) as client, ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(outcome, lambda: client.post(server.url)) for _ in range(2)]
        server.wait_for(2)
        server.__exit__(None)
        for call in calls:
            assert call.result(LONGEST_WAIT) in ("ReadError", "RemoteProtocolError")


@each_library
def test_a_server_that_speaks_both_serves_http1_clients(library: Any) -> None:
    for tls in (False, True):
        with HostileServer(http2=True, tls=tls) as server, library.Client(**options(server)) as client:
            assert client.get(server.url).http_version == "HTTP/1.1"


def frames(sock: socket.socket, peer: H2Connection, wanted: type[Event]) -> Event:
    """Read until an event of this kind comes."""
    while data := sock.recv(65536):
        for event in peer.receive_data(data):
            if isinstance(event, wanted):
                return event
        sock.sendall(peer.data_to_send())
    raise AssertionError(f"the server closed before {wanted.__name__}")


def test_a_stream_that_the_client_resets_ends_alone() -> None:
    peer = H2Connection(H2Configuration(client_side=True))
    head = [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "x")]
    with (
        HostileServer(["hang"], http2=True) as server,
        socket.create_connection(("127.0.0.1", server.port), LONGEST_WAIT) as sock,
    ):
        peer.initiate_connection()
        peer.send_headers(1, head, end_stream=True)
        sock.sendall(peer.data_to_send())
        server.wait_for(1)
        peer.reset_stream(1, 8)
        peer.send_headers(3, head, end_stream=True)
        sock.sendall(peer.data_to_send())
        assert frames(sock, peer, ResponseReceived).stream_id == 3  # type: ignore[attr-defined]
        assert (server.executions, server.connections) == (2, 1)


def test_a_client_that_breaks_the_protocol_gets_an_error() -> None:
    peer = H2Connection(H2Configuration(client_side=True))
    with (
        HostileServer(http2=True) as server,
        socket.create_connection(("127.0.0.1", server.port), LONGEST_WAIT) as sock,
    ):
        peer.initiate_connection()
        sock.sendall(peer.data_to_send() + b"\x00\x00\x04\x08\x00\x00\x00\x00\x00" + bytes(4))  # by nothing
        assert frames(sock, peer, ConnectionTerminated).error_code == 1  # type: ignore[attr-defined]
        server.wait_for(1, "closed")


def test_a_client_that_says_goodbye_is_let_go() -> None:
    peer = H2Connection(H2Configuration(client_side=True))
    with (
        HostileServer(http2=True) as server,
        socket.create_connection(("127.0.0.1", server.port), LONGEST_WAIT) as sock,
    ):
        peer.initiate_connection()
        peer.close_connection()
        sock.sendall(peer.data_to_send())
        server.wait_for(1, "closed")


@each_library
@pytest.mark.parametrize(("fault", "http2"), [("reset-stream", False), ("garbage", True), ("stale", True)])
def test_a_fault_of_the_other_protocol_is_raised_where_the_block_ends(library: Any, fault: str, http2: bool) -> None:
    def block() -> None:
        with HostileServer(fault, http2=True) as server, library.Client(**options(server, http2=http2)) as client:
            assert outcome(lambda: client.get(server.url)) in RESET

    with pytest.raises(ConfigError, match="over http"):
        block()


@each_library
def test_a_chooser_that_raises_ends_the_connection_and_the_block(library: Any, connect: Callable[..., Any]) -> None:
    def broken(request: Any) -> str:
        raise LookupError("no plan")

    def block() -> None:
        with HostileServer(broken, http2=True) as server, connect(server) as client:
            assert outcome(lambda: client.get(server.url)) in RESET

    with pytest.raises(LookupError, match="no plan"):
        block()


def test_without_h2_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h2", None)
    with pytest.raises(ConfigError, match="'h2' to be installed"):
        HostileServer(http2=True)
