"""Record a response while it flows to the client.

Of a stream of events only whole events are recorded and sent: where the app breaks off inside an event, the error event
follows the last whole one, for the first client as in each replay. An Envelope outside does the same by the same
framing, so the bytes that are kept are the bytes that were sent.
"""

from __future__ import annotations

from collections.abc import Iterable

from flexmw.contract.stream_framing import UnitBuffer, framing_of
from flexmw.idempotency.core import StoredResponse
from flexmw.idempotency.log import ResponseLog
from flexmw.idempotency.stored import internal_error, lasting_headers
from flexmw.kit.exchange import FramedStream

__all__ = ["ResponseRecorder"]

_NO_ENDS: tuple[bytes, ...] = ()


class ResponseRecorder:
    """Collects status, headers and body of one response. A body above ``max_body`` is counted and not kept.

    :param max_body: bytes of the body that are kept at most.
    :ivar received: bytes of the body that the app has sent, without the last message.
    :ivar size: bytes of the body that the client may have.
    :ivar last: the last whole events, without comments.
    :ivar log: the log that readers follow; ``None`` for a response that comes in one message.
    """

    # fmt: off
    __slots__ = (
        "_buffer", "_chunks", "_ends", "_max_body", "_rest", "_tail", "headers", "last", "log", "received", "size",
        "status",
    )
    # fmt: on

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._chunks: list[bytes] | None = []
        self._buffer: UnitBuffer | None = None
        self._ends = _NO_ENDS
        self._tail = self._rest = b""
        self.status = 0
        self.headers: tuple[tuple[bytes, bytes], ...] = ()
        self.size = self.received = 0
        self.last = b""
        self.log: ResponseLog | None = None

    @property
    def started(self) -> bool:
        """Whether the response has begun."""
        return self.status != 0

    @property
    def is_framed(self) -> bool:
        """Whether the response is a stream that can be ended with an error."""
        return self._buffer is not None and not self._buffer.is_loose

    def start(self, status: int, headers: Iterable[Iterable[bytes]]) -> None:
        """Record the status and the headers."""
        self.status = status
        self.headers = tuple((bytes(name), bytes(value)) for name, value in headers)

    def frame(self, stream: FramedStream | None) -> None:
        """The body comes in several messages. Hold back what is not a whole event.

        :param stream: the stream that an Envelope outside makes of the response.
        """
        framing = framing_of(self.headers, lines=False) if stream is None else stream.framing
        if framing is not None and self.status < 400:
            self._buffer, self._ends = UnitBuffer(framing), framing.ends

    def keep(self, log: ResponseLog) -> None:
        """Record the body in a log from now on."""
        self.log = log

    def add(self, data: bytes) -> bytes:
        """Record a part of the body that is not the last one. Returns what the client may have of it."""
        buffer = self._buffer
        self.received += len(data)
        if buffer is None:
            units = data
        else:
            units = data if not buffer.rest and data.endswith(self._ends) else buffer.add(data)
            if units[:1] != b":" and units:
                self.last = units
        self.size += len(units)
        if self.log is not None:
            self.log.append(units)
        elif self.size > self._max_body:
            self._chunks = None
        elif self._chunks is not None:
            self._chunks.append(units)
        return units

    def finish(self, data: bytes) -> bytes:
        """Record the last part of the body. Returns the bytes of the last message to the client."""
        buffer = self._buffer
        if buffer is None:
            units = data
        else:
            units = buffer.add(data)
            self._rest = bytes(buffer.rest)
            if units[:1] != b":" and units:
                self.last = units
        self._tail = units
        self.size += len(units)
        return units + self._rest

    def complete(self) -> StoredResponse:
        """The response, which is complete."""
        size = self.size + len(self._rest)
        headers = lasting_headers(self.headers)
        return StoredResponse(status=self.status, headers=headers, body=self._body(self._rest), size=size)

    def broken_off(self, last_unit: bytes) -> StoredResponse:
        """The response, which was broken off.

        A stream of events gets the error as its last event, which is what the client of the first request received. Any
        other partial body looks like a complete one, so the response is a 500 instead.

        :param last_unit: the error event, or the line with the error.
        """
        if not self.is_framed:
            return internal_error()
        size = self.size + len(last_unit)
        headers = lasting_headers(self.headers)
        return StoredResponse(status=self.status, headers=headers, body=self._body(last_unit), size=size)

    def end_log(self, last_unit: bytes | None = None) -> None:
        """Let the readers of the log have the end of the body.

        :param last_unit: what ends a response that was broken off; ``None`` for a complete one.
        """
        log = self.log
        if log is None or log.is_ended:
            return
        log.append(self._tail)
        if last_unit is None or self.is_framed:
            log.append(self._rest if last_unit is None else last_unit)
            log.end()
        else:
            log.end(broken=True)

    def _body(self, end: bytes) -> bytes | None:
        """The body with ``end`` behind its whole units; ``None`` if it is too long to be kept."""
        log = self.log
        chunks = self._chunks if log is None else log.chunks if log.is_continuable else None
        if chunks is None or self.size + len(end) > self._max_body:
            return None
        return b"".join((*chunks, self._tail, end))
