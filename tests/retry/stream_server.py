"""Another implementation of ``docs/streams.md``: a server that keeps the response of each key, and cuts connections."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

from flexmw.contract import ErrorBody
from flexmw.contract.idempotent_stream import STREAM, format_stream, parse_stream
from flexmw.testing.hostile import Fault, Received, Response

__all__ = ["SSE", "Cut", "Kept", "StreamServer", "refusal"]

SSE = b"".join(b'data: {"n": %d}\n\n' % number for number in range(18)) + b"data: [DONE]\n\n"
"""An event stream of about 300 bytes."""

How = Literal["fin", "rst", "clean", "silent", "reset_stream", "go_away"]


@dataclass(frozen=True)
class Cut:
    """How one response ends early.

    :param size: the bytes of the body that are sent.
    :param how: by the end of the connection or of its HTTP/2 stream, cleanly, or in silence.
    """

    size: int
    how: How = "fin"


@dataclass
class Kept:
    """The response of one execution."""

    body: bytes
    generation: str = field(default_factory=lambda: secrets.token_hex(10))


def refusal(status: int, code: str | None = None, **headers: str) -> Response:
    """An error response with a code."""
    body = ErrorBody(message="no", type="invalid_request_error", code=code).as_dict()
    return Response(
        status,
        body=body,
        headers=tuple((name.replace("_", "-"), value) for name, value in headers.items()),
        executes=False,
    )


class Piece(Fault):
    def __init__(self, headers: dict[str, str], data: bytes, cut: Cut | None, length: int | None, new: bool) -> None:
        self.headers, self.data, self.cut, self.length, self.new = headers, data, cut, length, new

    def run(self, exchange: Any) -> None:
        if self.new:
            exchange.execute()
        exchange.start(200, tuple(self.headers.items()), self.length)
        data = self.data if self.cut is None else self.data[: self.cut.size]
        if data:
            exchange.send(data)
        if self.cut is None or (self.cut.how == "clean" and (self.length is None or exchange.protocol == "http2")):
            exchange.end()
        elif self.cut.how == "clean":
            exchange.close("fin")  # the length shows that the response was cut
        elif self.cut.how == "silent":
            exchange.pause(None)
        elif self.cut.how == "reset_stream":
            exchange.reset_stream(2)
        elif self.cut.how == "go_away":
            exchange.go_away(processed=True)
        else:
            exchange.close(self.cut.how)


class StreamServer:
    """The script of a :class:`~flexmw.testing.HostileServer`.

    :param cuts: how each response ends early, in order; further responses are whole. ``None``: whole.
    :param refusals: the responses to the first requests after the first one, in order; ``None``: as usual.
    :param keeps: whether the server knows the field; a server that does not replays.
    :param ttl: whether the server announces that it honours keys.
    :param length: whether the first response has a length; a later one of a kept response has.
    """

    def __init__(
        self,
        body: bytes = SSE,
        cuts: Iterable[Cut | None] = (),
        refusals: Iterable[Fault | None] = (),
        *,
        keeps: bool = True,
        ttl: bool = True,
        length: bool = False,
        content_type: str = "text/event-stream",
    ) -> None:
        self.body, self.cuts, self.refusals = body, list(cuts), list(refusals)
        self.keeps, self.ttl, self.length, self.content_type = keeps, ttl, length, content_type
        self.kept: dict[str, Kept] = {}
        self.fields: list[str | None] = []
        self.later_length = True

    def __call__(self, request: Received) -> Fault:
        key, fields = request.header("idempotency-key"), request.header_values(STREAM)
        self.fields.append(fields[0] if fields else None)
        if len(self.fields) > 1 and self.refusals and (refused := self.refusals.pop(0)) is not None:
            return refused
        if key is None:
            return self._piece(Kept(self.body), None, new=True)
        if fields and self.keeps:
            position = parse_stream(fields)
            kept = self.kept.get(key)
            if kept is None:
                return refusal(410, "idempotency_stream_gone")
            if kept.generation != position.generation or position.start is None:
                return refusal(409, "idempotency_stream_changed")
            return self._piece(kept, position.start, new=False)
        new = key not in self.kept
        return self._piece(self.kept.setdefault(key, Kept(self.body)), None, new=new)

    def _piece(self, kept: Kept, start: int | None, *, new: bool) -> Fault:
        headers = {"content-type": self.content_type}
        data = kept.body[start or 0 :]
        if self.ttl:
            headers["idempotency-key-ttl"] = "3600"
        if self.keeps:
            digest = None if start is None else sha256(kept.body[:start]).digest()
            headers[STREAM] = format_stream(kept.generation, start, digest)
        cut = self.cuts.pop(0) if self.cuts else None
        has_length = self.length if new else self.later_length
        return Piece(headers, data, cut, len(data) if has_length else None, new)
