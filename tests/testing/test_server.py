"""The server's own life: scripts, records, counts, and an end that leaves nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import anyio
import httpx
import pytest

from flexmw.errors import ConfigError
from flexmw.testing import FakeClock, HostileServer
from flexmw.testing.hostile import Drip, Exchange, Fault, Received, Response, closed_port, fault
from tests.testing.clients import NO_TRUST, RESET, aoutcome, outcome, plain_client
from tests.waiting import LONGEST_WAIT


@pytest.fixture
def client() -> Generator[httpx.Client]:
    with plain_client() as client:
        yield client


def statuses(client: httpx.Client, server: HostileServer, n: int) -> list[int | str]:
    return [outcome(lambda: client.post(server.url, content=b"x")) for _ in range(n)]


# --- scripts ---------------------------------------------------------------------------------------------------------


def test_one_fault_is_every_requests_fault(client: httpx.Client) -> None:
    with HostileServer("503") as server:
        assert statuses(client, server, 3) == [503, 503, 503]


def test_a_list_is_followed_in_order_and_good_responses_come_after_it(client: httpx.Client) -> None:
    with HostileServer(["503", Response(418), "rst"]) as server:
        assert statuses(client, server, 5) == [503, 418, "ReadError", 200, 200]
        assert server.executions == 5


def test_another_end_of_the_list_can_be_set(client: httpx.Client) -> None:
    with HostileServer(["200"], then="500") as server:
        assert statuses(client, server, 3) == [200, 500, 500]


def test_a_function_chooses_by_the_whole_request(client: httpx.Client) -> None:
    def choose(request: Received) -> str | None:
        return "503" if request.json()["n"] == 2 else None

    with HostileServer(choose) as server:
        assert [client.post(server.url, json={"n": n}).status_code for n in (1, 2, 3)] == [200, 503, 200]


def test_a_connections_fault_waits_in_the_list_for_the_next_connection(client: httpx.Client) -> None:
    with HostileServer(["200", "rst-on-connect", "503"]) as server:
        assert statuses(client, server, 2) == [200, 503]  # on the connection that is open already
        with plain_client() as another:
            assert outcome(lambda: another.post(server.url)) in (*RESET, "ConnectError")
            assert outcome(lambda: another.post(server.url)) == 200
        assert (server.connections, server.executions) == (3, 3)


def test_a_script_can_be_replaced_and_the_counts_begun_anew(client: httpx.Client) -> None:
    with HostileServer("503") as server:
        assert statuses(client, server, 2) == [503, 503]
        server.follow(["429"])
        server.forget()
        assert statuses(client, server, 2) == [429, 200]
        assert (server.executions, len(server.requests), server.connections) == (1, 2, 1)


def test_a_fault_of_ones_own_is_a_class_with_two_methods(client: httpx.Client) -> None:
    @dataclass(frozen=True)
    class HalfRead(Fault):
        @property
        def share(self) -> float:
            return 0.25

        def run(self, exchange: Exchange) -> None:
            Response(413, executes=False).run(exchange)

    with HostileServer([HalfRead()]) as server:
        assert statuses(client, server, 2) == [413, 200]
        assert [request.complete for request in server.requests] == [False, True]
        assert server.connections == 2  # the rest of the body made the first one useless


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("nonsense", "nonsense.*'429:seconds=2'"),
        (["503", "rst-read"], "rst-read.*rst-reading"),
        ("429:someday", "someday"),
        ("600", "600"),
        ("099", "099"),
        ([None], "None.*names of faults"),
        ("refused-stream", "http2=True"),
        (["200", "goaway"], "http2=True"),
    ],
)
def test_a_script_that_cannot_be_followed_is_refused_at_once(script: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        HostileServer(script)


def test_what_a_function_raises_is_raised_where_the_block_ends(client: httpx.Client) -> None:
    def broken(request: Received) -> str:
        raise LookupError("no plan for this")

    with pytest.raises(LookupError, match="no plan for this"), HostileServer(broken) as server:
        assert outcome(lambda: client.get(server.url)) == "ReadError"


@pytest.mark.parametrize("choice", ["handshake-hang", "nonsense"])
def test_a_function_cannot_choose_what_is_no_fault_of_a_request(choice: str, client: httpx.Client) -> None:
    with pytest.raises(ConfigError, match=choice), HostileServer(lambda request: choice) as server:
        assert outcome(lambda: client.get(server.url)) == "ReadError"


def test_an_error_of_the_block_is_not_covered_by_one_of_the_script(client: httpx.Client) -> None:
    def block() -> None:
        with HostileServer(lambda request: "nonsense") as server:
            outcome(lambda: client.get(server.url))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        block()


# --- records ---------------------------------------------------------------------------------------------------------


def test_a_request_is_recorded_as_it_was_sent() -> None:
    clock = FakeClock(monotonic=50.0)
    with HostileServer(clock=clock) as server, plain_client() as client:
        client.put(f"{server.url}/a%20b?c=d&c=e", content=b"body", headers=[("X-Twice", "1"), ("X-Twice", "2")])
        clock.advance(1.5)
        client.get(server.url)
        first, second = server.requests
    assert (first.method, first.target, first.path, first.query) == ("PUT", "/a%20b?c=d&c=e", "/a%20b", "c=d&c=e")
    assert (first.body, first.complete, first.header_values("x-twice")) == (b"body", True, ("1", "2"))
    assert ("X-Twice", "1") in first.headers
    assert first.header("absent") is None
    assert (first.connection, second.connection, second.arrived - first.arrived) == (1, 1, 1.5)


def test_a_chunked_body_is_put_together(client: httpx.Client) -> None:
    with HostileServer() as server:
        client.post(server.url, content=iter([b"one", b"two", b"three"]))
        assert server.requests[0].body == b"onetwothree"


def test_half_of_a_chunked_body_is_its_first_chunk(client: httpx.Client) -> None:
    with HostileServer("rst-reading") as server:
        assert outcome(lambda: client.post(server.url, content=iter([b"one", b"two"]))) in RESET
        assert [(request.body, request.complete) for request in server.requests] == [(b"one", False)]


def test_trailers_belong_to_no_body_and_no_next_request() -> None:
    with HostileServer() as server, socket.create_connection(("127.0.0.1", server.port), timeout=LONGEST_WAIT) as sock:
        chunked = (
            b"POST /1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2;ext=1\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"
        )
        sock.sendall(chunked + b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
        server.wait_for(2)
        assert [(request.path, request.body) for request in server.requests] == [("/1", b"ok"), ("/2", b"")]


def test_a_body_that_the_client_cuts_short_is_recorded_and_not_executed() -> None:
    with HostileServer() as server:
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        server.wait_for(1, "closed")
        assert server.executions == 0
        assert [(request.body, request.complete) for request in server.requests] == [(b"half", False)]


def test_every_execution_responds_under_its_own_number(client: httpx.Client) -> None:
    with HostileServer(["rst", "429"]) as server:
        outcome(lambda: client.post(server.url))
        assert client.post(server.url).status_code == 429
        assert client.post(f"{server.url}/third").json()["execution"] == 2
        assert [request.path for request in server.executed] == ["/", "/third"]


def test_executions_of_many_threads_are_all_counted() -> None:
    with HostileServer(lambda request: "503" if request.path == "/503" else None) as server:

        def work(n: int) -> list[int]:
            with plain_client(base_url=server.url) as own:
                return [own.post(path).status_code for path in ("/ok", "/503") for _ in range(10)]

        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(work, range(8)))
        assert results == [[200] * 10 + [503] * 10] * 8
        assert (server.executions, len(server.requests), server.connections) == (160, 160, 8)
        assert len({request.connection for request in server.requests}) == 8


def test_waiting_says_what_is_there_when_it_gives_up() -> None:
    with HostileServer() as server, pytest.raises(TimeoutError, match=r"for 1 executions.*executions=0, requests=0"):
        server.wait_for(1, timeout=0.01)


def test_waiting_ends_with_the_event(client: httpx.Client) -> None:
    with HostileServer("hang") as server, ThreadPoolExecutor(1) as pool:
        call = pool.submit(lambda: outcome(lambda: client.post(server.url, content=b"x", timeout=None)))
        server.wait_for(1)
        assert not call.done()
        assert server.executions == 1
        server.__exit__(None)
        assert call.result(LONGEST_WAIT) in ("ReadError", "RemoteProtocolError")


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "content_type", "sent"),
    [
        (b"\x00\xff", "application/octet-stream", b"\x00\xff"),
        ("grüß", "text/plain; charset=utf-8", "grüß".encode()),
        ({"a": [1]}, "application/json", b'{"a": [1]}'),
        (["a"], "application/json", b'["a"]'),
    ],
)
def test_a_body_is_sent_as_what_it_is(body: Any, content_type: str, sent: bytes, client: httpx.Client) -> None:
    with HostileServer(Response(200, body=body)) as server:
        response = client.get(server.url)
    assert (response.headers["content-type"], response.content) == (content_type, sent)


def test_an_error_is_in_the_envelope_of_the_contract(client: httpx.Client) -> None:
    with HostileServer("500") as server:
        error = client.get(server.url).json()["error"]
    assert (error["type"], error["code"]) == ("server_error", "internal_error")


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_has_none(status: int, client: httpx.Client) -> None:
    with HostileServer([Response(status)]) as server:
        assert client.get(server.url).content == b""
        assert client.get(server.url).status_code == 200  # the framing held
        assert server.connections == 1


def test_a_head_request_gets_the_head_alone(client: httpx.Client) -> None:
    with HostileServer() as server:
        response = client.head(server.url)
        assert (response.content, int(response.headers["content-length"]) > 0) == (b"", True)
        assert (client.get(server.url).status_code, server.connections) == (200, 1)


def test_a_client_that_asks_for_permission_to_send_gets_it() -> None:
    with HostileServer() as server, socket.create_connection(("127.0.0.1", server.port), timeout=LONGEST_WAIT) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"ok")
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")


def test_requests_in_one_packet_get_their_responses_one_after_the_other() -> None:
    with HostileServer(["503", "200"]) as server, socket.create_connection(("127.0.0.1", server.port)) as sock:
        one = b"GET /%d HTTP/1.1\r\nHost: x\r\n%b\r\n"
        sock.sendall(one % (1, b"") + one % (2, b"Connection: close\r\n"))
        with sock.makefile("rb") as answers:
            text = answers.read()
        assert text.index(b" 503 ") < text.index(b" 200 ")
        assert [request.path for request in server.requests] == ["/1", "/2"]


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00",
        b"GET /\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: ten\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 70_000,
        b"GET / HTTP/1.1\r\nA: " + b"a" * 70_000,
    ],
    ids=["tls", "no version", "http2", "length", "chunk", "chunk too long", "head too long"],
)
def test_what_is_not_http1_gets_400_and_takes_nothing_from_the_script(data: bytes) -> None:
    with HostileServer("503") as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=LONGEST_WAIT) as sock:
            sock.sendall(data)
            assert sock.recv(1000).startswith(b"HTTP/1.1 400 Bad Request\r\n")
        server.wait_for(1, "closed")
        assert server.executions == 0


def test_a_dripping_response_lasts_longer_than_any_read_timeout(client: httpx.Client) -> None:
    drip = Drip(response=Response(503, body="x" * 10), size=1, interval=0.02)
    for script in (drip, dataclasses.replace(drip, chunked=True)):
        with HostileServer(script) as server, client.stream("GET", server.url) as response:
            pieces = list(response.iter_raw())
        assert (len(pieces), b"".join(pieces)) == (10, b"x" * 10)
        assert ("content-length" in response.headers) is not script.chunked


# --- connections -----------------------------------------------------------------------------------------------------


def test_a_closed_port_refuses(client: httpx.Client) -> None:
    with closed_port() as url:
        assert [outcome(lambda: client.get(url)) for _ in range(3)] == ["ConnectError"] * 3


def test_a_server_can_refuse_for_a_while_and_keeps_its_port(client: httpx.Client) -> None:
    with HostileServer() as server:
        assert client.get(server.url).status_code == 200
        for _ in range(3):
            with server.refusing(), plain_client() as another:
                assert outcome(lambda: another.get(server.url)) == "ConnectError"
                assert client.get(server.url).status_code == 200  # a connection that is open lives on
        with plain_client() as another:
            assert another.get(server.url).status_code == 200
        assert server.connections == 2


def test_a_kept_connection_that_was_closed_is_noticed_by_the_pool(client: httpx.Client) -> None:
    with HostileServer(["stale"]) as server:
        assert client.get(server.url).status_code == 200
        server.wait_for(1, "closed")
        assert client.get(server.url).status_code == 200
        assert (server.connections, server.executions) == (2, 2)


def test_a_kept_connection_that_closes_in_a_race_loses_the_next_request(client: httpx.Client) -> None:
    with HostileServer(["stale-race", "503"]) as server:
        assert client.get(server.url).status_code == 200
        lost = outcome(lambda: client.post(server.url, content=b"x"))
        assert lost in RESET
        assert (server.executions, len(server.requests)) == (1, 1)
        assert client.post(server.url).status_code == 503  # the race took nothing from the script


@pytest.mark.anyio
async def test_a_cancelled_call_is_seen_as_a_connection_that_the_client_closed() -> None:
    with HostileServer(["hang"]) as server:
        async with (
            httpx.AsyncClient(trust_env=False, timeout=None, verify=NO_TRUST) as client,
            anyio.create_task_group() as group,
        ):
            group.start_soon(aoutcome, lambda: client.post(server.url, content=b"x"))
            await anyio.to_thread.run_sync(server.wait_for, 1)
            assert server.open_connections == 1
            group.cancel_scope.cancel()
        with anyio.fail_after(LONGEST_WAIT):
            await anyio.to_thread.run_sync(server.wait_for, 1, "closed")
        assert (server.executions, server.open_connections) == (1, 0)


# --- the end ---------------------------------------------------------------------------------------------------------


def hung_in_the_answer(server: HostileServer, sock: socket.socket) -> None:
    sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    server.wait_for(1)


def hung_in_the_request(server: HostileServer, sock: socket.socket) -> None:
    sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
    server.wait_for(1, "connections")


def hung_before_the_request(server: HostileServer, sock: socket.socket) -> None:
    server.wait_for(1, "connections")


HUNG = {
    "answer": ("hang", False, hung_in_the_answer),
    "answer that nobody reads": (Response(200, body=b"x" * 20_000_000), False, hung_in_the_answer),
    "drops": (Drip(interval=60.0), False, hung_in_the_answer),
    "request": ("ok", False, hung_in_the_request),
    "connection": ("ok", False, hung_before_the_request),
    "silence": ("handshake-hang", True, hung_before_the_request),
    "handshake": ("ok", True, hung_before_the_request),
}


@pytest.mark.parametrize("where", HUNG)
def test_leaving_the_block_ends_what_hangs(where: str) -> None:
    script, tls, hang = HUNG[where]
    before = set(threading.enumerate())
    with socket.socket() as sock:
        sock.settimeout(LONGEST_WAIT)
        with HostileServer(script, tls=tls) as server:  # type: ignore[arg-type]
            sock.connect(("127.0.0.1", server.port))
            hang(server, sock)
        assert server.open_connections == 0
        with contextlib.suppress(ConnectionResetError):
            while sock.recv(1_000_000):  # a recv that hung would end this test by its timeout
                pass
    assert set(threading.enumerate()) <= before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))


def test_a_function_that_does_not_return_is_named_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flexmw.testing.hostile.server._STOP_SECONDS", 0.05)
    release, asked = threading.Event(), threading.Event()

    def stuck(request: Received) -> None:
        asked.set()
        release.wait(LONGEST_WAIT)

    def block() -> None:
        with HostileServer(stuck) as server, socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert asked.wait(LONGEST_WAIT)

    with pytest.raises(RuntimeError, match="hostile-1 still busy"):
        block()
    release.set()


def test_a_server_is_used_in_one_block() -> None:
    server = HostileServer()
    with pytest.raises(ConfigError, match="not entered"):
        _ = server.url
    assert "not running" in repr(server)
    with server:
        assert server.url in repr(server)
    with pytest.raises(ConfigError, match="entered before"), server:
        pass


def test_a_status_that_cannot_be_final_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"100.*200 to 599"):
        Response(100)


def test_every_name_of_a_status_and_form_is_a_fault() -> None:
    assert fault("429:fraction=0.5") == Response(429, retry="fraction", wait=0.5)
    assert fault("503") == Response(503)
