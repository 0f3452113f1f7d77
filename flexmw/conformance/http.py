"""HTTP client of the probes: one connection for each request, no redirects, no retries.

A probe must see what a server sends. So the client follows no redirect, keeps no connection, decodes no content coding,
and reads what follows the head of a response to HEAD.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from io import BufferedReader
from typing import Any, Final, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from flexmw import __version__
from flexmw.conformance.probes.errors import WRONG_KEY
from flexmw.conformance.target import Base
from flexmw.conformance.values import NoResponse, Request, Response

__all__ = ["Client"]

_MAX_BODY_BYTES: Final = 4 * 1024 * 1024
_CHUNK_BYTES: Final = 16 * 1024
_HEAD_SECONDS: Final = 2.0
"""Longest wait for a body that must not come, in seconds."""


@dataclass(frozen=True, kw_only=True)
class Client:
    """Sends requests to one API.

    :param base: the base URL, and the query that each request has.
    :param key: the user's API key; ``None`` sends none.
    :param headers: further headers of each request.
    :param timeout: seconds for a server to connect, and for each whole response.
    """

    base: Base
    key: str | None = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    timeout: float = 10.0

    def send(self, request: Request) -> Response:
        """Send one request and read its response.

        :raises NoResponse: no HTTP response arrived; the text says why.
        """
        connection, prefix = self._connection()
        try:
            return self._exchange(connection, prefix, request)
        except (OSError, HTTPException, ValueError) as error:
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise NoResponse(reason) from error
        finally:
            connection.close()

    def _connection(self) -> tuple[HTTPConnection, str]:
        """A connection to the server or the environment's proxy, and what precedes the path in a request line."""
        parts = urlsplit(self.base.url)
        host, port = str(parts.hostname), parts.port
        proxy = None if proxy_bypass(host) else getproxies().get(parts.scheme)
        through = urlsplit(proxy) if proxy and "://" in proxy else None
        to_host, to_port = (str(through.hostname), through.port) if through else (host, port)
        if parts.scheme == "http":
            return HTTPConnection(to_host, to_port, timeout=self.timeout), f"http://{parts.netloc}" if through else ""
        secure = HTTPSConnection(to_host, to_port, timeout=self.timeout, context=ssl.create_default_context())
        if through:
            secure.set_tunnel(host, port or 443)
        return secure, ""

    def _exchange(self, connection: HTTPConnection, prefix: str, request: Request) -> Response:
        ends = time.monotonic() + self.timeout
        query = "&".join(filter(None, (self.base.query, request.query)))
        target = f"{prefix}{urlsplit(self.base.url).path}{request.path}{'?' * bool(query)}{query}"
        connection.putrequest(request.method, target, skip_accept_encoding=True)
        for name, value in self._head(request):
            connection.putheader(name, value)
        connection.endheaders()
        if connection.sock is None:  # pragma: no cover  - endheaders() connects, or raises
            raise HTTPException("not connected")
        with suppress(BrokenPipeError, ConnectionResetError):  # a server may respond before it has read the body
            for part in _parts(request):
                connection.send(part)
        reader = cast(BufferedReader, connection.sock.makefile("rb"))
        with reader:
            if request.declared_bytes is not None and reader.peek(12)[:12].endswith(b" 100"):
                return Response(status=100)
            # From Python 3.13 on, a response whose file was closed before it complains on stderr when it is collected.
            with HTTPResponse(cast(Any, _Socket(reader)), method=request.method) as response:
                response.begin()
                if request.method == "HEAD":
                    connection.sock.settimeout(min(self.timeout, _HEAD_SECONDS))
                    body = _rest(reader)
                else:
                    body = b"".join(_body(response, request.read_bytes, ends))
                headers = {name.lower(): ", ".join(response.headers.get_all(name) or ()) for name in response.headers}
                return Response(status=response.status, headers=headers, body=body, seconds=time.time())

    def _head(self, request: Request) -> Iterator[tuple[str, str]]:
        yield "User-Agent", f"flexmw-check/{__version__}"
        yield "Accept", "application/json, text/event-stream;q=0.9, */*;q=0.1"
        yield "Connection", "close"
        yield from self.headers
        yield from request.headers
        key = {"given": self.key, "wrong": WRONG_KEY, "none": None}[request.key]
        if key is not None:
            yield "Authorization", f"Bearer {key}"
        if request.body is not None:
            yield "Content-Type", request.media_type
            if request.declared_bytes is not None:
                yield "Content-Length", str(request.declared_bytes)
                yield "Expect", "100-continue"
            elif request.chunked:
                yield "Transfer-Encoding", "chunked"
            else:
                yield "Content-Length", str(len(request.body))


class _Socket:
    """What ``HTTPResponse`` needs of a socket: the file that is read already."""

    def __init__(self, reader: BufferedReader) -> None:
        self._reader = reader

    def makefile(self, mode: str) -> BufferedReader:
        return self._reader


def _parts(request: Request) -> Iterator[bytes]:
    """The body as it is sent."""
    if request.body is None or request.declared_bytes is not None:
        return
    if not request.chunked:
        yield request.body
        return
    half = len(request.body) // 2
    for part in (request.body[:half], request.body[half:]):
        if part:
            yield b"%x\r\n%b\r\n" % (len(part), part)
    yield b"0\r\n\r\n"


def _body(response: HTTPResponse, wanted: int | None, ends: float) -> Iterator[bytes]:
    """Read a body, or its first bytes.

    :raises HTTPException: the body is too large, or was cut off.
    """
    size, limit = 0, _MAX_BODY_BYTES if wanted is None else wanted
    while chunk := response.read1(min(_CHUNK_BYTES, limit - size)):
        size += len(chunk)
        yield chunk
        if size >= limit:
            if wanted is None:
                raise HTTPException(f"the response is larger than {_MAX_BODY_BYTES} bytes")
            return
        if time.monotonic() > ends:
            raise TimeoutError("the response took too long: raise --timeout")
    if response.length:
        raise HTTPException(f"the response ended {response.length} bytes before its Content-Length")


def _rest(reader: BufferedReader) -> bytes:
    """What follows the head of a response, until the server closes the connection."""
    with suppress(OSError):
        return reader.read1(_CHUNK_BYTES)
    return b""
