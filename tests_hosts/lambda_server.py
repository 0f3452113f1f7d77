"""Mangum behind a small HTTP server that stands for AWS's HTTP API: payload format 2.0, one invocation at a time."""

from __future__ import annotations

import asyncio
import base64
import signal
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from mangum import Mangum

from tests.servers import Served

__all__ = ["lambda_server"]

_HOST: Final = "127.0.0.1"


class _Gateway(BaseHTTPRequestHandler):
    """Translates a request to an event, and the function's result to a response."""

    protocol_version = "HTTP/1.1"
    function: Any

    def handle_one_request(self) -> None:
        self.close_connection = True  # one thread serves all connections, one after the other
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            return
        self.close_connection = True
        try:
            result = self.function(self._event(), None)
        except Exception:  # AWS responds for a function that fails
            result = {"statusCode": 502, "headers": {}, "body": "", "isBase64Encoded": False}
        body = result["body"]
        content = base64.b64decode(body) if result["isBase64Encoded"] else body.encode()
        self.send_response(result["statusCode"])
        for name, value in result["headers"].items():
            if name != "content-length":
                self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.send_header("connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _event(self) -> dict[str, Any]:
        parts = urlsplit(self.path)
        body = b"".join(self._chunks()) or self.rfile.read(int(self.headers.get("content-length", 0)))
        return {
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": unquote(parts.path),
            "rawQueryString": parts.query,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "requestContext": {
                "http": {"method": self.command, "path": unquote(parts.path), "sourceIp": self.client_address[0]}
            },
            "body": base64.b64encode(body).decode(),
            "isBase64Encoded": True,
        }

    def _chunks(self) -> Iterator[bytes]:
        """The parts of a chunked body. AWS passes it on as a whole."""
        while self.headers.get("transfer-encoding") == "chunked" and (size := int(self.rfile.readline(), 16)):
            yield self.rfile.read(size)
            self.rfile.readline()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@contextmanager
def lambda_server(app: Any, *, port: int = 0) -> Generator[Served]:
    """Serve an app as a function: ``Mangum(app)``. The loop of its invocations runs only during an invocation."""
    loop = asyncio.new_event_loop()
    server: list[HTTPServer] = []
    up = threading.Event()

    def body() -> None:
        asyncio.set_event_loop(loop)
        handler = type("Gateway", (_Gateway,), {"function": staticmethod(Mangum(app))})
        server.append(HTTPServer((_HOST, port), handler))
        up.set()
        server[0].serve_forever(poll_interval=0.05)

    thread = threading.Thread(target=body, name="test-lambda", daemon=True)
    thread.start()
    up.wait()
    port = int(server[0].server_address[1])
    try:
        yield Served(f"http://{_HOST}:{port}", port)
    finally:
        server[0].shutdown()
        thread.join()
        server[0].server_close()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


if __name__ == "__main__":
    from tests_hosts.served import app

    with lambda_server(app, port=int(sys.argv[1])):
        signal.sigwait({signal.SIGTERM})
