"""Record a response while it flows to the client.

Of a stream of events only whole events are recorded and sent: where the app breaks off inside an event, the error event
follows the last whole one, for the first client as in each replay. An Envelope outside does the same by the same
framing, so the bytes that are kept are the bytes that were sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from flexmw.contract.idempotent_stream import ends_whole
from flexmw.contract.stream_framing import UnitBuffer, framing_of
from flexmw.idempotency.core import StoredResponse
from flexmw.idempotency.log import ResponseLog
from flexmw.idempotency.stored import internal_error, lasting_headers
from flexmw.kit.asgi import Message
from flexmw.kit.exchange import FramedStream

__all__ = ["ResponseRecorder"]

_WITHOUT_BODY: Final = frozenset({204, 304})
"""Statuses of responses without a body. Their ``Content-Length`` is about another response."""


class ResponseRecorder:
    """Collects status, headers and body of one response. A body above ``max_body`` is counted and not kept.

    :param max_body: bytes of the body that are kept at most.
    :ivar log: the log that readers follow; ``None`` for a response that is not a stream.
    :ivar ends: the ends of its whole units, for ``bytes.endswith``.
    :ivar rest: the beginning of a unit that the client may not have yet.
    :ivar length: the ``Content-Length`` that the app has declared; ``None`` without one.
    :ivar has_failed: True if the app has begun an error within a good response. Nothing after that belongs to it.
    """

    # fmt: off
    __slots__ = (
        "_buffer", "_chunks", "_end", "_last", "_max_body", "_size", "_tail", "ends", "has_failed", "headers", "length",
        "log", "rest", "status",
    )
    # fmt: on

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._chunks: list[bytes] | None = []
        self._buffer: UnitBuffer | None = None
        self._size = 0
        self._last = self._tail = self._end = b""
        self.status = 0
        self.headers: tuple[tuple[bytes, bytes], ...] = ()
        self.ends: tuple[bytes, ...] | bytes = b""
        self.rest: bytes | bytearray = b""
        self.length: int | None = None
        self.has_failed = False
        self.log: ResponseLog | None = None

    @property
    def started(self) -> bool:
        """Whether the response has begun."""
        return self.status != 0

    @property
    def is_framed(self) -> bool:
        """Whether the response is a stream that can be ended with an error."""
        return self._buffer is not None and not self._buffer.is_loose

    @property
    def is_cut(self) -> bool:
        """Whether the app has ended a body before the length that it has declared: the server cuts the connection."""
        length = self.length
        return length is not None and length > self._whole_size() and self.status not in _WITHOUT_BODY

    @property
    def is_open(self) -> bool:
        """Whether a body that ends now may lack a part: a successful one without a length, or shorter than that. An
        event stream is complete if its last event is a terminal one, such as ``data: [DONE]``."""
        if self.status >= 400 or self.length == self.received:
            return False
        return not (self.is_framed and ends_whole(self.last))

    def takes_more(self, start: Message) -> bool:
        """Whether a second start is recorded: never.

        :raises RuntimeError: for an error within a good response, which a framework (muffin) makes of a failure. Its
            body must not be stored as the end of the response. Servers raise for every second start.
        """
        if start["status"] >= 400 and self.status < 400:
            self.has_failed = True
            raise RuntimeError("the app has begun a second response within its response")
        return False

    def start(self, status: int, headers: Iterable[tuple[bytes, bytes]], length: int | None = None) -> None:
        """Record the status, the headers, and the ``Content-Length`` among them in bytes."""
        self.status = status
        self.headers = tuple(headers)
        self.length = length

    def frame(self, stream: FramedStream | None) -> None:
        """The body comes in several messages. Hold back what is not a whole event.

        :param stream: the stream that an Envelope outside makes of the response.
        """
        framing = framing_of(self.headers, lines=False) if stream is None else stream.framing
        if framing is not None and self.status < 400:
            self._buffer, self.ends = UnitBuffer(framing), framing.ends
            self.rest = self._buffer.rest

    @property
    def size(self) -> int:
        """Bytes of the body that the client may have."""
        return self._size if self.log is None else self.log.size

    @property
    def received(self) -> int:
        """Bytes of the body that the app has sent."""
        return self.size + len(self.rest)

    @property
    def last(self) -> bytes:
        """The last whole events that are not comments, as far as the body is kept."""
        chunks = [*self._kept(), self._tail]
        return next((chunk for chunk in reversed(chunks) if chunk and chunk[:1] != b":"), self._last)

    def add(self, data: bytes) -> bytes:
        """Record a part of the body that is not the last one. Returns what the client may have of it."""
        units = data if self._buffer is None else self._buffer.add(data)
        if self.log is not None:
            self.log.append(units)
        else:
            self._size += len(units)
            if self._size > self._max_body:
                self._chunks = None
            elif self._chunks is not None:
                self._chunks.append(units)
        if units and units[:1] != b":":
            self._last = units
        return units

    def drop(self) -> None:
        """The body is too long to be kept: its log ends for all readers that follow it."""
        if self.log is not None:
            self._last = self.last
            self.log.discard()

    def finish(self, data: bytes) -> bytes:
        """Record the last part of the body. Returns the bytes of the last message to the client."""
        buffer = self._buffer
        if buffer is None:
            units = data
        else:
            units = buffer.add(data)
            self._end = bytes(buffer.rest)
        self._tail = units
        return units + self._end

    def complete(self) -> StoredResponse:
        """The response, which the app has ended."""
        return self._response(self._end)

    def broken_off(self, last_unit: bytes) -> StoredResponse:
        """The response, which was broken off.

        A stream of events gets the error as its last event, which is what the client of the first request received. Any
        other partial body looks like a complete one, so the response is a 500 instead.

        :param last_unit: the error event, or the line with the error.
        """
        if not self.is_framed:
            return self.internal_error()
        return self._response(last_unit)

    def break_log(self) -> None:
        """Let the readers of the log know that no more of the body comes, unless the log has ended."""
        if self.log is not None and not self.log.is_ended:
            self.log.end(broken=True)

    def end_log(self, last_unit: bytes | None = None) -> None:
        """Let the readers of the log have the end of the body.

        :param last_unit: what ends a response that was broken off; ``None`` for a complete one.
        """
        log = self.log
        if log is None or log.is_ended:
            return
        log.append(self._tail)
        is_whole = not self.is_cut if last_unit is None else self.is_framed
        if is_whole:
            log.append(self._end if last_unit is None else last_unit)
            log.end()
        else:
            log.end(broken=True)

    def _response(self, end: bytes) -> StoredResponse:
        """The response with ``end`` behind its whole units, without its body if that is too long to be kept."""
        log, tail = self.log, self._tail
        if log is None:
            size, chunks = self._size, self._chunks
        else:
            size, chunks = log.size, log.chunks if log.is_continuable else None
        size += len(tail) + len(end)
        body = None
        if chunks is not None and size <= self._max_body:
            body = b"".join((*chunks, tail, end)) if chunks or end else tail  # most bodies are one chunk
        headers, length = lasting_headers(self.headers), self.length
        if length is not None and length != size and self.status not in _WITHOUT_BODY:
            # The app has declared another length. A server refuses what is longer, and would refuse each replay too.
            headers = tuple((name, str(size) if name == "content-length" else value) for name, value in headers)
        return StoredResponse(self.status, headers, body, size)

    def internal_error(self) -> StoredResponse:
        """The response in place of a body that the app has broken off, or ended before its ``Content-Length``: such a
        body looks like a complete one."""
        return internal_error(sent_bytes=self.size if self.size > self._max_body else 0)

    def _whole_size(self) -> int:
        """Bytes of the body that the app has ended."""
        return self.size + len(self._tail) + len(self._end)

    def _kept(self) -> list[bytes]:
        return (self._chunks or []) if self.log is None else self.log.chunks
