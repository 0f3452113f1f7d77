"""A wire that loses responses: the server did the work, and the caller never gets the response."""

from __future__ import annotations

import socket
import socketserver
from collections.abc import Generator
from contextlib import contextmanager, suppress
from threading import Thread
from urllib.parse import urlsplit

__all__ = ["lossy"]


@contextmanager
def lossy(url: str, *, lose: int) -> Generator[str]:
    """The same server under another URL, on a wire that loses the first `lose` responses. For one caller at a time."""
    target = urlsplit(url)
    left = lose

    class Wire(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            nonlocal left
            near: socket.socket = self.request
            with socket.create_connection((target.hostname, target.port)) as far, suppress(OSError):
                Thread(target=carry, args=(near, far), daemon=True).start()
                while data := far.recv(65_536):
                    if left > 0:
                        left -= 1
                        return  # both ends are closed; nothing of the response went through
                    near.sendall(data)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Wire) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def carry(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
