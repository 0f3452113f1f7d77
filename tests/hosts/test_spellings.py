"""No spelling of a route gets past the limit of the route: every host, on real sockets, with what its server passes on.

Each request is harmless. A host may answer a spelling with 404, a redirect or the route's own response; only the last
one must not happen once the limit is used up.

The promise in SECURITY.md: "No way past a limit".
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

import flexmw
from tests.hosts.limited_apps import ALL, limited
from tests.servers import granian_server, hypercorn_server, uvicorn_server
from tests.waiting import LONGEST_WAIT

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


SERVERS: dict[str, Any] = {
    "h11": lambda app: uvicorn_server(app, http="h11"),
    "httptools": lambda app: uvicorn_server(app, http="httptools"),
    "hypercorn": hypercorn_server,
}
"""Servers in a thread. Granian, in a process of its own, serves all hosts at once."""


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, str], int]]:
    """Each host on each server, with both limits used up."""
    with ExitStack() as stack:
        granian = stack.enter_context(
            granian_server("tests.hosts.limited_apps:app", tmp_path_factory.mktemp("granian"), lifespan="on")
        )
        found = {
            (host, server): stack.enter_context(serve(limited(make()))).port
            for host, make in ALL.items()
            for server, serve in SERVERS.items()
        }
        found |= {(host, "granian"): granian.port for host in ALL}
        for (host, _), port in found.items():
            for path in ("/ok", "/items/1/part"):
                assert reached(ask(port, "GET", path, host), "GET"), "the first request passes"
        yield found


def ask(port: int, method: str, target: str, host: str) -> tuple[int, bytes]:
    """The status and the body of a response; the request line goes out as it is written."""
    headers = f"Host: host\r\nX-Framework: {host}\r\nConnection: close"
    with socket.create_connection(("127.0.0.1", port), LONGEST_WAIT) as sock, sock.makefile("rb") as response:
        sock.sendall(f"{method} {target} HTTP/1.1\r\n{headers}\r\n\r\n".encode("latin-1"))
        received = response.read()
    head, _, body = received.partition(b"\r\n\r\n")
    return (int(head.split(b" ", 2)[1]) if head else 0), body


def reached(response: tuple[int, bytes], method: str) -> bool:
    status, body = response
    return status == 200 and (method.upper() == "HEAD" or b"fine" in body)


@pytest.mark.parametrize("server", [*SERVERS, "granian"])
@pytest.mark.parametrize("host", ALL)
def test_no_spelling_reaches_a_route_past_its_limit(host: str, server: str, ports: dict[tuple[str, str], int]) -> None:
    port = ports[host, server]
    past = [
        (method, target)
        for method, target in (*(("GET", target) for target in ROUTE + TEMPLATE), *((one, "/ok") for one in METHODS))
        if reached(ask(port, method, target, host), method)
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
        statuses = [ask(served.port, "GET", target, host)[0] for target in ("/ok", "/ok", "//ok", "/ok/")]
    assert statuses[1:] == [429, 429, 429]
