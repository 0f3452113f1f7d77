"""What the hostile server writes down about one request.

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
    """One request, as far as it was read.

    ``target`` is the request target as sent: a path, a whole URL from a client that uses the server as its proxy, or
    ``host:port`` of a ``CONNECT``. ``headers`` keep their order, case and duplicates (HTTP/2 sends lower case).
    ``complete`` is false where the fault or the client ended the body early. ``connection`` counts from 1, ``stream``
    is the HTTP/2 stream or 0. ``arrived`` is the clock's monotonic time at which the head was complete.
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
        """The path without the query, for every form of target; empty for a ``CONNECT``."""
        return "" if self.method == "CONNECT" else urlsplit(self.target).path

    @property
    def query(self) -> str:
        """What follows the question mark, undecoded."""
        return "" if self.method == "CONNECT" else urlsplit(self.target).query

    def header(self, name: str) -> str | None:
        """The first value of a header; ``None`` where it was not sent."""
        return next(iter(self.header_values(name)), None)

    def header_values(self, name: str) -> tuple[str, ...]:
        """Every value of a header, in order."""
        return tuple(value for key, value in self.headers if key.lower() == name.lower())

    def json(self) -> Any:
        """The body as JSON; raises ``ValueError`` where it is none."""
        return json.loads(self.body)
