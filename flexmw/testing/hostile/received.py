"""The record of one request that the server has received.

>>> request = Received(method="POST", target="/v1/models?limit=2", headers=(("Accept", "*/*"),))
>>> request.path, request.query, request.header("accept")
('/v1/models', 'limit=2', '*/*')
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Received"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """The part of one request that was read.

    :param method: the request method.
    :param target: the request target as sent: a path, a whole URL from a client that uses the server as its proxy, or
        the ``host:port`` of a ``CONNECT``.
    :param headers: in their order, with case and duplicates (HTTP/2 sends lower case).
    :param body: the bytes that were read.
    :param complete: False if the fault or the client ended the body early.
    :param connection: the number of the connection, from 1.
    :param stream: the HTTP/2 stream; 0 with HTTP/1.1.
    :param arrived: when the head was complete, in seconds of the monotonic clock.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    complete: bool = True
    connection: int = 1
    stream: int = 0
    arrived: float = 0.0

    @property
    def path(self) -> str:
        """The path without the query; empty for a ``CONNECT``."""
        return "" if self.method == "CONNECT" else urlsplit(self.target).path

    @property
    def query(self) -> str:
        """The query without the question mark, not decoded."""
        return "" if self.method == "CONNECT" else urlsplit(self.target).query

    def header(self, name: str) -> str | None:
        """Return the first value of a header; ``None`` if it was not sent."""
        return next(iter(self.header_values(name)), None)

    def header_values(self, name: str) -> tuple[str, ...]:
        """Return every value of a header, in order."""
        return tuple(value for key, value in self.headers if key.lower() == name.lower())

    def json(self) -> Any:
        """Return the body as JSON.

        :raises ValueError: the body is not JSON.
        """
        return json.loads(self.body)
