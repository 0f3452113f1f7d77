"""What of an answer is kept, and what the caller of a broken one is told.

>>> keeps(200, has_wait=False), keeps(429, has_wait=True), keeps(500, has_wait=False), keeps(503, has_wait=True)
(True, False, True, False)
>>> lasting([(b"content-type", b"text/plain"), (b"Date", b"..."), (b"x-ratelimit-limit-requests", b"1")])
(('content-type', 'text/plain'),)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from flexmw.contract import ErrorBody, Row, for_status
from flexmw.idempotency.core import Kept
from flexmw.idempotency.outcome import is_events

__all__ = ["NOTHING_DONE", "Tee", "crashed", "keeps", "lasting", "rendered"]

NOTHING_DONE: Final = frozenset({400, 401, 402, 409, 413, 415, 422, 425, 429})
"""Answers that say that nothing was done: they are not kept, and the key may be used again at once. 400, 413, 415 and
422 are what a validation answers."""

# fmt: off
_VOLATILE: Final = frozenset({
    "age", "alt-svc", "connection", "cf-ray", "date", "idempotency-key-ttl", "idempotent-replayed", "keep-alive",
    "nel", "proxy-authenticate", "proxy-connection", "ratelimit", "ratelimit-policy", "report-to", "request-id",
    "retry-after", "retry-after-ms", "server", "server-timing", "set-cookie", "te", "traceparent", "tracestate",
    "trailer", "transfer-encoding", "upgrade", "via", "x-amzn-trace-id", "x-b3-traceid", "x-correlation-id",
    "x-process-time", "x-request-id", "x-response-time", "x-runtime", "x-should-retry", "x-trace-id",
})
# fmt: on
_VOLATILE_PREFIXES: Final = ("x-ratelimit-", "anthropic-ratelimit-")
"""Headers of one response and not of the result: times, hops, limits, ids of a request, cookies."""


def keeps(status: int, *, has_wait: bool) -> bool:
    """Whether an answer is kept. A 503 with a ``Retry-After`` is a refusal, one without may follow work."""
    return status not in NOTHING_DONE and not (status == 503 and has_wait)


def lasting(headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    """The headers that belong to the result, names in lower case, in their order."""
    pairs = ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers)
    return tuple(pair for pair in pairs if pair[0] not in _VOLATILE and not pair[0].startswith(_VOLATILE_PREFIXES))


def rendered(status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> Kept:
    """An error of the contract as it is kept."""
    fixed = (("content-type", "application/json"), ("content-length", str(len(body))))
    names = {name for name, _ in fixed}
    own = tuple(pair for pair in lasting(headers) if pair[0] not in names)
    return Kept(status=status, headers=fixed + own, body=body, size=len(body))


def crashed(row: Row | None = None) -> Kept:
    """What is kept when the app raised or never answered: 500 ``internal_error``, the same that the caller is told."""
    row = row or for_status(500)
    return rendered(row.status, ErrorBody(message=row.message, type=row.type, code=row.code).encode())


class Tee:
    """Collects a response while it flows, up to a bound. One for each request."""

    __slots__ = ("_chunks", "_most", "headers", "size", "status")

    def __init__(self, most: int) -> None:
        self._most = most
        self._chunks: list[bytes] | None = []
        self.status = 0
        self.headers: tuple[tuple[bytes, bytes], ...] = ()
        self.size = 0

    @property
    def started(self) -> bool:
        """Whether the response has begun."""
        return self.status != 0

    def start(self, status: int, headers: Iterable[Iterable[bytes]]) -> None:
        """The head of the response."""
        self.status = status
        self.headers = tuple((bytes(name), bytes(value)) for name, value in headers)

    def add(self, chunk: bytes) -> None:
        """A part of its body."""
        self.size += len(chunk)
        if self.size > self._most:
            self._chunks = None
        elif self._chunks is not None:
            self._chunks.append(bytes(chunk))

    def kept(self) -> Kept:
        """The answer, complete."""
        body = None if self._chunks is None else b"".join(self._chunks)
        return Kept(status=self.status, headers=lasting(self.headers), body=body, size=self.size)

    def broken(self, error: bytes) -> Kept:
        """The answer when it broke off: a stream of events ends with the error as its last event, which is what a
        caller of the first call was told; anything else cannot be told from a whole answer and becomes a 500."""
        if not is_events(self.headers):
            return crashed()
        body = None if self._chunks is None else b"".join(self._chunks)
        if body is not None:
            gap = b"" if not body or body.endswith((b"\n\n", b"\r\n\r\n")) else b"\n\n"
            body += gap + b"data: " + error + b"\n\n"
        return Kept(
            status=self.status,
            headers=tuple(pair for pair in lasting(self.headers) if pair[0] != "content-length"),
            body=body,
            size=self.size if body is None else len(body),
        )
