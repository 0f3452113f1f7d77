"""HTTP/1.1 (RFC 9112) for a test server: heads, both body framings and pipelining."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from http.client import responses
from typing import Final

from flexmw.kit.clock import Clock
from flexmw.testing.hostile.exchange import Exchange
from flexmw.testing.hostile.ledger import Ledger
from flexmw.testing.hostile.received import Received
from flexmw.testing.hostile.waits import Headers
from flexmw.testing.hostile.wire import How, Wire

__all__ = ["PREFACE", "Http1Exchange", "Malformed", "read_head", "speaks_http2"]

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What an HTTP/2 client begins with (RFC 9113 section 3.4)."""

_LIMIT: Final = 65536
_REQUEST_LINE: Final = re.compile(r"([!-~]+) ([!-~]+) HTTP/1\.[01]")
_BODILESS: Final = frozenset({204, 304})


class Malformed(Exception):
    """The client does not speak HTTP/1.1: a TLS handshake on a plain port, for instance."""


def read_head(wire: Wire, *, connection: int, clock: Clock) -> Received:
    """Read the next request without its body.

    :raises Malformed: the bytes are not HTTP/1.1.
    :raises Gone: the client ends the connection.
    """
    while (end := wire.buffer.find(b"\r\n\r\n")) < 0:
        if len(wire.buffer) > _LIMIT or (wire.buffer and not chr(wire.buffer[0]).isalpha()):
            raise Malformed
        wire.fill()
    first, *lines = wire.take(end + 4)[:-4].decode("latin-1").split("\r\n")
    if (match := _REQUEST_LINE.fullmatch(first)) is None:
        raise Malformed
    headers = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
    return Received(
        method=match[1],
        target=match[2],
        headers=headers,
        complete=False,
        connection=connection,
        arrived=clock.monotonic(),
    )


class Http1Exchange(Exchange):
    """One request on a connection. ``over`` is True if the connection cannot carry another request after it."""

    protocol = "http1"

    def __init__(
        self,
        request: Received,
        ledger: Ledger,
        clock: Clock,
        standing: Headers,
        *,
        wire: Wire,
        open_tunnel: Callable[[Wire, str], None],
    ) -> None:
        super().__init__(request, ledger, clock, standing)
        self.over = False
        self._wire = wire
        self._open_tunnel = open_tunnel
        self._chunked = False
        self._silent = request.method == "HEAD"

    def receive(self, share: float) -> None:
        if share > 0 and (self.request.header("expect") or "").lower() == "100-continue":
            self._wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = bytearray()
        complete = False
        try:
            if "chunked" in (self.request.header("transfer-encoding") or "").lower():
                complete = share > 0 and self._read_chunks(body, whole=share >= 1)
            else:
                length = int(self.request.header("content-length") or 0)
                complete = self._read_length(body, int(length * share)) >= length
        except ValueError as error:
            raise Malformed from error
        finally:
            self.request = dataclasses.replace(self.request, body=bytes(body), complete=complete)

    def start(self, status: int, headers: Headers, length: int | None) -> None:
        self._silent = self._silent or status in _BODILESS
        self._chunked = length is None and not self._silent
        lines = [
            f"HTTP/1.1 {status} {responses.get(status, 'Unknown')}",
            *(f"{name}: {value}" for name, value in self.headers(headers)),
        ]
        if self._chunked:
            lines.append("Transfer-Encoding: chunked")
        elif status not in _BODILESS:
            lines.append(f"Content-Length: {length or 0}")
        if not self.request.complete or (self.request.header("connection") or "").lower() == "close":
            lines.append("Connection: close")
            self.over = True
        self._wire.send("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def send(self, data: bytes) -> None:
        if data and not self._silent:
            self._wire.send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end(self) -> None:
        if self._chunked:
            self._wire.send(b"0\r\n\r\n")

    def pause(self, seconds: float | None) -> None:
        self._wire.pause(seconds)

    def close(self, how: How) -> None:
        self.over = True
        self._wire.close(how)

    def raw(self, data: bytes) -> None:
        self._wire.send(data)

    def drop_next(self, how: How) -> None:
        if not self._wire.buffer:
            self._wire.fill()
        self.close(how)

    def tunnel(self) -> None:
        self._wire.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self._open_tunnel(self._wire, self.request.target)

    def _read_length(self, body: bytearray, target: int) -> int:
        while len(body) < target:
            if not self._wire.buffer:
                self._wire.fill()
            body += self._wire.take(min(target - len(body), len(self._wire.buffer)))
        return len(body)

    def _read_chunks(self, body: bytearray, *, whole: bool) -> bool:
        """Read the chunks, or the first chunk alone. Return whether that was the whole body."""
        while size := int(self._line().partition(b";")[0], 16):
            body += self._wire.take(size)
            self._line()
            if not whole:
                return False
        while self._line():  # trailers
            pass
        return True

    def _line(self) -> bytes:
        while (end := self._wire.buffer.find(b"\r\n")) < 0:
            if len(self._wire.buffer) > _LIMIT:
                raise ValueError("a line of the chunked body is too long")
            self._wire.fill()
        return self._wire.take(end + 2)[:-2]


def speaks_http2(wire: Wire) -> bool:
    """Return whether the connection begins with the preface of HTTP/2. It reads only the bytes that decide."""
    while PREFACE.startswith(wire.buffer) and len(wire.buffer) < len(PREFACE):
        wire.fill()
    return wire.buffer.startswith(PREFACE)
