"""No spelling of a route gets past the limit of the route: every host, on real sockets, with what its server passes on.

Each request is harmless. A host may answer a spelling with 404, a redirect or the route's own response; only the last
one must not happen once the limit is used up.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

import flexmw
from tests.hosts.apps import HOSTS
from tests.servers import ASGIApp, Served, hypercorn_server, uvicorn_server

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ROUTE = [
    "/ok", "/ok/", "//ok", "//ok//", "/%6fk", "/%6Fk", "/%2Fok", "%2Fok", "/ok%2F", "/ok%2f", "/OK", "/Ok/", "/ok%0a",
    "/ok%0d", "/ok%20", "/ok%09", "/ok%00", "/ok?x=1", "/ok/?", "/ok%3Fx", "/ok#f", "/ok%23", "/x/../ok", "/./ok",
    "/ok/.", "/x/%2e%2e/ok", "/%2e/ok", "/ok/x/..", "/ok;a", "/ok;a=b/", "/;a/ok", "/ok%3Ba", "/%256fk", "ok", "ok/",
    "*", "http://host/ok", "http://host//ok", "HTTP://host/OK", "https://u@host:1/ok/", "//host/ok", "http:/ok",
    "http:ok", "/\\ok", "\\ok", "/ok.json", "/ok..", "/ok/index.html", "/\u00b5/../ok",
]  # fmt: skip
TEMPLATE = [
    "/items/1/part", "/items/1/part/", "//items//1//part", "/items/a%2Fb/part", "/items/a%2fb/part",
    "/items/a%20b/part", "/items//part", "/items/1//part", "/items/%31/part", "/items/1%2Fpart", "/items%2F1%2Fpart",
    "/ITEMS/1/PART", "/items/1;x/part", "/items/1/part;x", "/items/../1/part", "/items/%0a/part", "/items/1/part%0a",
    "/items/%00/part", "/items/./part", "/items/%2e%2e/part", "http://host/items/1/part", "items/1/part",
    "/items/%252F/part",
]  # fmt: skip
METHODS = ["get", "Get", "HEAD"]


def fastapi() -> ASGIApp:
    from fastapi import FastAPI

    app = FastAPI()

    @app.api_route("/ok", methods=["GET", "HEAD"])
    async def ok() -> str:
        return "fine"

    @app.api_route("/items/{item}/part", methods=["GET", "HEAD"])
    async def part(item: str) -> str:
        return "fine"

    return app


ALL: dict[str, Callable[[], ASGIApp]] = {"fastapi": fastapi, **HOSTS}
SERVERS: dict[str, Any] = {
    "h11": lambda app: uvicorn_server(app, http="h11"),
    "httptools": lambda app: uvicorn_server(app, http="httptools"),
    "hypercorn": hypercorn_server,
}


@pytest.fixture(scope="module")
def limited() -> Iterator[dict[tuple[str, str], Served]]:
    """Each host behind a limit of one request in a day for each of its two routes, on each server."""
    with ExitStack() as stack:
        served = {
            (host, server): stack.enter_context(
                serve(
                    flexmw.RateLimit(
                        "100000/minute", limit={"GET /ok": "1/day", "GET /items/{item}/part": "1/day"}
                    ).asgi(make())
                )
            )
            for host, make in ALL.items()
            for server, serve in SERVERS.items()
        }
        for one in served.values():
            for path in ("/ok", "/items/1/part"):
                assert reached(ask(one.port, "GET", path), "GET"), "the first request passes"
        yield served


def ask(port: int, method: str, target: str) -> tuple[int, bytes]:
    """The status and the body of a response; the request line goes out as it is written."""
    with socket.create_connection(("127.0.0.1", port), 10) as sock, sock.makefile("rb") as response:
        sock.sendall(f"{method} {target} HTTP/1.1\r\nHost: host\r\nConnection: close\r\n\r\n".encode("latin-1"))
        received = response.read()
    head, _, body = received.partition(b"\r\n\r\n")
    return (int(head.split(b" ", 2)[1]) if head else 0), body


def reached(response: tuple[int, bytes], method: str) -> bool:
    status, body = response
    return status == 200 and (method.upper() == "HEAD" or b"fine" in body)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("host", ALL)
def test_no_spelling_reaches_a_route_past_its_limit(
    host: str, server: str, limited: dict[tuple[str, str], Served]
) -> None:
    port = limited[host, server].port
    past = [
        (method, target)
        for method, target in (*(("GET", target) for target in ROUTE + TEMPLATE), *((one, "/ok") for one in METHODS))
        if reached(ask(port, method, target), method)
    ]
    assert past == []


@pytest.mark.parametrize("host", ALL)
def test_the_root_path_of_a_server_opens_no_way_past_the_limit(host: str) -> None:
    inner = flexmw.RateLimit(limit={"GET /ok": "1/day"}, exempt="/health").asgi(ALL[host]())

    async def below(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            raw = b"/api" + scope["raw_path"]
            scope = {**scope, "root_path": "/api", "path": "/api" + scope["path"], "raw_path": raw}
        await inner(scope, receive, send)

    with uvicorn_server(below) as served:
        statuses = [ask(served.port, "GET", target)[0] for target in ("/ok", "/ok", "//ok", "/ok/")]
    assert statuses[1:] == [429, 429, 429]
