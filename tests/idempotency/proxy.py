"""A TCP proxy that loses what it is told to lose, so that faults happen between a real client and a real server."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from tests.waiting import LONGEST_WAIT

Fault: TypeAlias = Literal["pass", "lost", "gone", "half", "stall"]
"""What happens to one connection: ``lost``: the answer is read from the server and thrown away, the client sees a
reset. ``gone``: both sides are reset as soon as the server works on the request. ``half``: the client gets half of the
answer. ``stall``: the client gets nothing until it gives up; the server is read to its end."""

_RESET = struct.pack("ii", 1, 0)


@dataclass
class Proxy:
    """One fault for each connection, in order; then ``pass``."""

    target: int
    faults: list[Fault]
    begun: Callable[[], object]
    port: int = 0
    connections: int = 0
    _threads: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                fault = self.faults[self.connections] if self.connections < len(self.faults) else "pass"
                self.connections += 1
            thread = threading.Thread(target=self._connection, args=(client, fault), daemon=True, name="test-proxy")
            self._threads.append(thread)
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(LONGEST_WAIT)

    def _connection(self, client: socket.socket, fault: Fault) -> None:
        with client, socket.create_connection(("127.0.0.1", self.target)) as server, suppress(OSError):
            client.settimeout(LONGEST_WAIT)
            server.settimeout(LONGEST_WAIT)
            if fault == "pass":
                back = threading.Thread(target=_pump, args=(server, client), daemon=True, name="test-proxy-back")
                back.start()
                _pump(client, server)
                with suppress(OSError):
                    server.shutdown(socket.SHUT_RDWR)
                back.join(LONGEST_WAIT)
                return
            server.sendall(_request(client))
            if fault == "gone":
                while not self.begun():
                    time.sleep(0.005)
                _reset(server)
                _reset(client)
                return
            answer = _answer(server)
            if fault == "half":
                client.sendall(answer[: len(answer) - 12])
            if fault == "stall":
                with suppress(OSError):
                    client.recv(1)
            _reset(client)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(65536):
            sink.sendall(chunk)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _reset(side: socket.socket) -> None:
    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    side.close()


def _head(side: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = side.recv(65536)
        if not chunk:
            raise OSError("closed")
        data += chunk
    head, _, rest = data.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


def _length(head: bytes) -> int | None:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return None


def _request(client: socket.socket) -> bytes:
    head, body = _head(client)
    while len(body) < (_length(head) or 0):
        body += client.recv(65536)
    return head + body


def _answer(server: socket.socket) -> bytes:
    head, body = _head(server)
    length = _length(head)
    while len(body) < length if length is not None else not body.endswith(b"0\r\n\r\n"):
        chunk = server.recv(65536)
        if not chunk:
            break
        body += chunk
    return head + body


@contextmanager
def proxy_to(port: int, *faults: Fault, begun: Callable[[], object]) -> Generator[Proxy]:
    """A proxy on a free port in front of ``port``; ``begun`` says whether the server works on the request."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        proxy = Proxy(port, list(faults), begun, listener.getsockname()[1])
        thread = threading.Thread(target=proxy.serve, args=(listener,), daemon=True, name="test-proxy-accept")
        thread.start()
        try:
            yield proxy
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(LONGEST_WAIT)
            proxy.join()
