"""A crash before the request was read: its answer arrives, and the connection ends in good order."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

import flexmw
from flexmw.envelope.drain import MAX_BYTES, read_rest
from tests.servers import Http, Serve
from tests.waiting import LONGEST_WAIT

BODY = b"what nobody read"


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_a_client_that_is_still_sending_gets_the_whole_response(serve: Serve, http: Http) -> None:
    crashing = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        crashing.set()
        raise RuntimeError("before the body was read")

    served = serve(flexmw.wrap_app(app, flexmw.Envelope()), http=http, lifespan="off")
    with socket.create_connection(("127.0.0.1", served.port)) as client:
        client.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(BODY))
        assert crashing.wait(LONGEST_WAIT)
        for at in range(0, len(BODY), 4):
            client.sendall(BODY[at : at + 4])
        answer = b""
        while data := client.recv(65536):  # a reset raises here
            answer += data
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b'"code":"internal_error"' in answer


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_no_request_is_lost_after_a_crash(serve: Serve, http: Http) -> None:
    async def crash(request: Request) -> None:
        raise RuntimeError("crash")

    app = Starlette(routes=[Route("/", crash, methods=["POST"])])
    served = serve(flexmw.wrap_app(app, flexmw.Envelope()), http=http)
    with httpx.Client(base_url=served.url, timeout=LONGEST_WAIT) as client:
        responses = [client.post("/", content=BODY) for _ in range(20)]
    assert {response.status_code for response in responses} == {500}
    assert all(response.headers.get_list("connection") == ["close"] for response in responses)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("error", "version", "closes"),
    [
        (RuntimeError("crash"), "1.0", True),
        (RuntimeError("crash"), "2", False),
        (RuntimeError("crash"), "3", False),
        (flexmw.UpstreamTimeout(), "1.1", False),
    ],
    ids=["HTTP/1.0", "HTTP/2 forbids it", "HTTP/3 forbids it", "a kind is not raised again"],
)
async def test_a_response_says_that_its_connection_ends(error: Exception, version: str, closes: bool) -> None:
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise error

    async def send(message: Any) -> None:
        sent.append(message)

    with suppress(RuntimeError):
        await flexmw.Envelope().asgi(app)({**scope(version=version), "path": "/"}, Body(), send)
    assert ((b"connection", b"close") in sent[0]["headers"]) is closes


class Body:
    """A request body in pieces. After the last one nothing comes, until the client goes."""

    def __init__(self, *pieces: bytes) -> None:
        self.left = list(pieces)

    async def __call__(self) -> Any:
        if not self.left:
            await anyio.sleep_forever()
        piece = self.left.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(self.left)}


def scope(*headers: tuple[bytes, bytes], version: str = "1.1") -> Any:
    return {"type": "http", "http_version": version, "headers": headers}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("request_scope", "left"),
    [
        (scope((b"Content-Length", b"3")), 0),
        (scope((b"transfer-encoding", b"chunked")), 0),
        (scope(), 3),
        (scope((b"content-length", b"0")), 3),
        (scope((b"content-length", b"-3")), 3),
        (scope((b"content-length", str(MAX_BYTES + 1).encode())), 3),
        (scope((b"content-length", b"3"), (b"expect", b"100-continue")), 3),
        (scope((b"content-length", b"3"), version="2"), 3),
    ],
)
async def test_only_a_small_body_that_is_on_its_way_is_read(request_scope: Any, left: int) -> None:
    body = Body(b"a", b"b", b"c")
    await read_rest(request_scope, body)
    assert len(body.left) == left


@pytest.mark.anyio
async def test_an_endless_body_is_read_up_to_a_bound() -> None:
    body = Body(*[b"x" * 1024] * 100)
    await read_rest(scope((b"transfer-encoding", b"chunked")), body)
    assert len(body.left) == 100 - MAX_BYTES // 1024


@pytest.mark.anyio
async def test_a_body_that_never_comes_delays_the_response_by_a_moment_only() -> None:
    with anyio.fail_after(LONGEST_WAIT):
        await read_rest(scope((b"content-length", b"3")), Body())


@pytest.mark.anyio
async def test_a_broken_receive_hides_nothing() -> None:
    async def receive() -> Any:
        raise OSError("gone")

    await read_rest(scope((b"content-length", b"3")), receive)


@pytest.mark.anyio
@pytest.mark.parametrize("error", [flexmw.InvalidAPIKey(), RuntimeError("x")])
async def test_only_a_crash_waits(error: Exception) -> None:
    done: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise error

    async def receive() -> Any:
        done.append("read")
        return {"type": "http.request", "body": b"abc", "more_body": False}

    async def send(message: Any) -> None:
        done.append(message["type"])

    request = {**scope((b"content-length", b"3")), "method": "POST", "path": "/"}
    if isinstance(error, RuntimeError):
        with pytest.raises(RuntimeError):
            await flexmw.Envelope().asgi(app)(request, receive, send)
    else:
        await flexmw.Envelope().asgi(app)(request, receive, send)
    crash = ["read"] if isinstance(error, RuntimeError) else []
    assert done == [*crash, "http.response.start", "http.response.body"]


@pytest.mark.anyio
async def test_a_disconnect_that_the_reading_meets_keeps_no_response_back() -> None:
    sent: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with anyio.move_on_after(0):
            await receive()  # cancelled: granian answers the next one with a disconnect
        raise TimeoutError

    asked = 0

    async def receive() -> Any:
        nonlocal asked
        asked += 1
        if asked == 1:
            await anyio.sleep_forever()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    request = {**scope((b"content-length", b"3")), "method": "POST", "path": "/"}
    with pytest.raises(TimeoutError):
        await flexmw.Envelope().asgi(app)(request, receive, send)
    assert (asked, sent) == (2, ["http.response.start", "http.response.body"])


@pytest.mark.anyio
async def test_a_stream_that_breaks_waits_for_nothing() -> None:
    asked: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        raise KeyError("x")

    async def receive() -> Any:
        asked.append("the body")
        return {"type": "http.request"}

    async def send(message: Any) -> None: ...

    request = {**scope((b"content-length", b"3")), "method": "POST", "path": "/"}
    with pytest.raises(KeyError):
        await flexmw.Envelope().asgi(app)(request, receive, send)
    assert asked == []
