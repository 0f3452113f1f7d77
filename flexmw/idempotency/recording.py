"""Record a response while it flows to the client."""

from __future__ import annotations

from collections.abc import Iterable

from flexmw.contract.content import is_event_stream
from flexmw.idempotency.core import StoredResponse
from flexmw.idempotency.stored import internal_error, lasting_headers

__all__ = ["ResponseRecorder"]


class ResponseRecorder:
    """Collects status, headers and body of one response. A body above ``max_body`` is counted and not kept.

    :param max_body: bytes of the body that are kept at most.
    """

    __slots__ = ("_chunks", "_max_body", "headers", "size", "status")

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._chunks: list[bytes] | None = []
        self.status = 0
        self.headers: tuple[tuple[bytes, bytes], ...] = ()
        self.size = 0

    @property
    def started(self) -> bool:
        """Whether the response has begun."""
        return self.status != 0

    def start(self, status: int, headers: Iterable[Iterable[bytes]]) -> None:
        """Record the status and the headers."""
        self.status = status
        self.headers = tuple((bytes(name), bytes(value)) for name, value in headers)

    def add(self, chunk: bytes) -> None:
        """Record a part of the body."""
        self.size += len(chunk)
        if self.size > self._max_body:
            self._chunks = None
        elif self._chunks is not None:
            self._chunks.append(bytes(chunk))

    def complete(self) -> StoredResponse:
        """The response, which is complete."""
        return StoredResponse(
            status=self.status, headers=lasting_headers(self.headers), body=self._body(), size=self.size
        )

    def broken_off(self, error: bytes) -> StoredResponse:
        """The response, which was broken off, with ``error`` as the JSON of the error.

        A stream of events gets the error as its last event, which is what the client of the first request received. Any
        other partial body looks like a complete one, so the response is a 500 instead.
        """
        if not is_event_stream(self.headers):
            return internal_error()
        body = self._body()
        if body is not None:
            gap = b"" if not body or body.endswith((b"\n\n", b"\r\n\r\n")) else b"\n\n"
            body += gap + b"event: error\ndata: " + error + b"\n\n"
        return StoredResponse(
            status=self.status,
            headers=tuple(pair for pair in lasting_headers(self.headers) if pair[0] != "content-length"),
            body=body,
            size=self.size if body is None else len(body),
        )

    def _body(self) -> bytes | None:
        return None if self._chunks is None else b"".join(self._chunks)
