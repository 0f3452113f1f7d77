"""The HTTP client of the probes, against a port that sends the same bytes to everyone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPResponse

import pytest

from flexmw.conformance.http import Client
from flexmw.conformance.target import parse_base
from flexmw.conformance.values import NoResponse, Request, Response
from flexmw.testing import HostileServer
from tests.waiting import LONGEST_WAIT

OK = b"HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 4\r\n\r\nbody"


@dataclass
class Canned:
    """A port, and the requests that it was sent. ``awaits`` ends a request."""

    response: bytes
    awaits: bytes
    url: str = ""
    requests: list[bytes] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                data = b""
                while self.awaits not in data and (part := connection.recv(65536)):
                    data += part
                self.requests.append(data)
                connection.sendall(self.response)


@contextmanager
def canned(response: bytes = OK, awaits: bytes = b"\r\n\r\n") -> Iterator[Canned]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = Canned(response, awaits, f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread = threading.Thread(target=port.serve, args=(listener,))
        thread.start()
        try:
            yield port
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(LONGEST_WAIT)


def send(port: Canned, request: Request, url: str = "", **fields: object) -> Response:
    client = Client(base=parse_base(url or port.url), timeout=LONGEST_WAIT, **fields)  # type: ignore[arg-type]
    return client.send(request)


def test_a_request_has_the_path_the_queries_the_key_and_no_other_credential() -> None:
    with canned() as port:
        send(port, Request(method="GET", path="/models", query="q=1"), f"{port.url}/v1?a=b", key="sk-one")
        send(port, Request(method="GET", path="/models", key="none"), key="sk-one", headers=(("X-Tenant", "t"),))
        send(port, Request(method="GET", path="/models", key="wrong"), key="sk-one")
    one, two, three = (request.decode() for request in port.requests)
    assert one.startswith("GET /v1/models?a=b&q=1 HTTP/1.1\r\n")
    assert "\r\nAuthorization: Bearer sk-one\r\n" in one
    assert "Authorization" not in two
    assert "\r\nX-Tenant: t\r\n" in two
    assert "\r\nAuthorization: Bearer sk-flexmw-check-not-a-key\r\n" in three
    assert all("\r\nConnection: close\r\n" in request and "Accept-Encoding" not in request for request in (one, two))


def test_several_lines_of_one_header_are_joined() -> None:
    with canned() as port:
        response = send(port, Request(method="GET", path="/"))
    assert (response.status, response.headers["set-cookie"], response.body) == (200, "a, b", b"body")


def test_a_chunked_body_has_no_length() -> None:
    with canned(awaits=b"0\r\n\r\n") as port:
        send(port, Request(method="POST", path="/", body=b'{"a"', chunked=True))
    head, _, body = port.requests[0].partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert b"Content-Length" not in head
    assert body == b'2\r\n{"\r\n2\r\na"\r\n0\r\n\r\n'


@pytest.mark.parametrize(("line", "status"), [(b"HTTP/1.1 100 Continue\r\n\r\n", 100), (OK, 200)])
def test_a_declared_body_is_not_sent(line: bytes, status: int) -> None:
    with canned(line) as port:
        response = send(port, Request(method="POST", path="/", body=b"{", declared_bytes=1024**4))
    assert response.status == status
    head, _, body = port.requests[0].partition(b"\r\n\r\n")
    assert b"Content-Length: 1099511627776\r\nExpect: 100-continue" in head
    assert body == b""


def test_the_connection_is_closed_after_the_bytes_that_were_wanted() -> None:
    endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"64\r\n" + b"x" * 100 + b"\r\n"
    with canned(endless) as port:
        response = send(port, Request(method="POST", path="/", body=b"{}", read_bytes=10))
    assert response.body == b"x" * 10


@pytest.mark.parametrize(
    ("response", "request_"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nwhole part", Request(method="POST", path="/", read_bytes=3)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", Request(method="GET", path="/")),
        (b"", Request(method="GET", path="/")),
    ],
    ids=["more than was wanted", "cut off", "nothing"],
)
def test_a_response_is_closed_before_its_file(
    response: bytes, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From Python 3.13 on, one that is closed later writes an error to stderr when it is collected."""

    class Noted(HTTPResponse):
        def close(self) -> None:
            closed_files.append(self.fp is not None and self.fp.closed)
            super().close()

    closed_files: list[bool] = []
    monkeypatch.setattr("flexmw.conformance.http.HTTPResponse", Noted)
    with canned(response) as port, suppress(NoResponse):
        send(port, request_)
    assert closed_files
    assert not any(closed_files)


def test_a_redirect_is_not_followed() -> None:
    with canned(b"HTTP/1.1 307 X\r\nLocation: /else\r\nContent-Length: 0\r\n\r\n") as port:
        assert send(port, Request(method="GET", path="/")).status == 307
    assert len(port.requests) == 1


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (b"", "RemoteDisconnected"),
        (b"SMTP ready\r\n", "BadStatusLine"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "HTTPException: the response ended 6 bytes before"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf", "IncompleteRead"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (4 * 1024 * 1024 + 1), "the response is larger than"),
    ],
)
def test_what_is_no_whole_response_is_told_as_such(response: bytes, reason: str) -> None:
    with canned(response) as port, pytest.raises(NoResponse, match=reason):
        send(port, Request(method="GET", path="/"))


def test_the_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with canned() as port:
        monkeypatch.setenv("http_proxy", port.url)
        monkeypatch.delenv("no_proxy", raising=False)
        send(port, Request(method="GET", path="/models"), "http://api.example/v1")
    assert port.requests[0].startswith(b"GET http://api.example/v1/models HTTP/1.1\r\n")
    assert b"\r\nHost: api.example\r\n" in port.requests[0]


def test_a_secure_url_goes_through_the_proxys_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    with canned(b"HTTP/1.1 403 Forbidden\r\n\r\n") as port:
        monkeypatch.setenv("https_proxy", port.url)
        monkeypatch.delenv("no_proxy", raising=False)
        with pytest.raises(NoResponse, match="403 Forbidden"):
            send(port, Request(method="GET", path="/"), "https://api.example")
    assert port.requests[0].startswith(b"CONNECT api.example:443 HTTP/1.")


def test_a_certificate_that_nobody_vouches_for_is_no_response_and_a_trusted_one_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = Request(method="GET", path="/models")
    with HostileServer(["404"], tls=True) as server:
        client = Client(base=parse_base(server.url), timeout=LONGEST_WAIT)
        with pytest.raises(NoResponse, match="CERTIFICATE_VERIFY_FAILED"):
            client.send(request)
        trusting = server.client_context()
        monkeypatch.setattr("ssl.create_default_context", lambda: trusting)
        assert client.send(request).status == 404
