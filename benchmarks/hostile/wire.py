"""HTTP/1.1 on bare sockets, with a strict parser, for requests that no client library would send."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import h11

from flexmw.testing.hostile.ports import HOST

__all__ = ["NotHTTP", "Response", "connect", "exchange", "read", "request_bytes", "reset"]


class NotHTTP(Exception):
    """What a server sent is not HTTP/1.1, or ended before its end."""


@dataclass(frozen=True)
class Response:
    """A response that is whole."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


def request_bytes(
    method: str, target: str, headers: Sequence[tuple[str, str]] = (), body: bytes = b"", *, close: bool = True
) -> bytes:
    """The bytes of a request, whatever they are: nothing is checked."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {HOST}", *(f"{name}: {value}" for name, value in headers)]
    if body or method in ("POST", "PATCH", "PUT"):
        lines.append(f"Content-Length: {len(body)}")
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(HOST, port, limit=2**20)


async def read(reader: asyncio.StreamReader, method: str = "GET") -> Response:
    """Read one response.

    :raises NotHTTP: it is not whole, or not HTTP/1.1.
    """
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=65536)
    parser.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    parser.send(h11.EndOfMessage())
    head: h11.Response | None = None
    body = bytearray()
    while True:
        try:
            event = parser.next_event()
        except h11.RemoteProtocolError as error:
            raise NotHTTP(f"{error} after {head} {bytes(body[-60:])!r}") from error
        if event is h11.NEED_DATA:
            parser.receive_data(await reader.read(65536))
        elif isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            pairs = tuple((key.decode("ascii"), value.decode("latin-1")) for key, value in head.headers)
            return Response(head.status_code, pairs, bytes(body))
        elif isinstance(event, h11.ConnectionClosed):
            raise NotHTTP("closed without a response")


async def exchange(port: int, data: bytes, *, method: str = "GET", seconds: float = 30.0) -> Response:
    """Send bytes on a connection of their own, and read one response.

    :raises NotHTTP: the response is not whole.
    :raises TimeoutError: it did not come in time.
    """
    reader, writer = await connect(port)
    try:
        writer.write(data)
        async with asyncio.timeout(seconds):
            return await read(reader, method)
    finally:
        writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection by a reset, as a client does that was killed."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
