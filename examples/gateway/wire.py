"""Wires that lose responses, whole or in their middle, though the server did the work."""

from __future__ import annotations

import socket
import socketserver
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Thread
from urllib.parse import urlsplit

__all__ = ["CutWire", "cutting", "lossy"]

PIECE = 256
PAUSE = 0.01
"""Seconds between two pieces of at most PIECE bytes: slow enough to be watched."""


@contextmanager
def lossy(url: str, *, lose: int) -> Generator[str]:
    """The same server under another URL, on a wire that loses the first `lose` responses. For one caller at a time."""
    left = lose

    def respond(far: socket.socket, near: socket.socket) -> None:
        nonlocal left
        while data := far.recv(65_536):
            if left > 0:
                left -= 1
                return  # both ends are closed; nothing of the response went through
            near.sendall(data)

    with wire(url, respond) as other:
        yield other


@dataclass
class CutWire:
    """A wire that cuts responses.

    :param url: the same server under another URL.
    :param cuts: how many responses were cut so far.
    """

    url: str = ""
    cuts: int = 0


@contextmanager
def cutting(url: str, *, cuts: int, after: int) -> Generator[CutWire]:
    """The same server under another URL, on a slow wire that cuts the first `cuts` responses after `after` bytes of the
    body. For one caller at a time."""
    state = CutWire()

    def respond(far: socket.socket, near: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head and (data := far.recv(1)):
            head += data
        near.sendall(head)
        sent = 0
        while data := far.recv(PIECE):
            if state.cuts < cuts and sent >= after:
                state.cuts += 1
                return
            near.sendall(data)
            sent += len(data)
            time.sleep(PAUSE)

    with wire(url, respond) as state.url:
        yield state


@contextmanager
def wire(url: str, respond: Callable[[socket.socket, socket.socket], None]) -> Generator[str]:
    """The same server under another URL. `respond` carries the bytes of its responses, until it returns."""
    target = urlsplit(url)

    class Wire(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            near: socket.socket = self.request
            with socket.create_connection((target.hostname, target.port)) as far, suppress(OSError):
                Thread(target=carry, args=(near, far), daemon=True).start()
                respond(far, near)

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
