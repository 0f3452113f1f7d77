"""HTTP/2 (RFC 9113) with the ``h2`` package: one connection, and one thread for each of its requests."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from threading import Condition, Thread

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import ProtocolError

from flexmw.kit.clock import Clock
from flexmw.testing.hostile.exchange import Exchange
from flexmw.testing.hostile.ledger import Ledger
from flexmw.testing.hostile.received import Received
from flexmw.testing.hostile.waits import Headers
from flexmw.testing.hostile.wire import Gone, How, Wire

__all__ = ["Http2Connection", "Http2Exchange"]


class Http2Connection:
    """Reads frames, and calls ``serve`` for every request in a thread of its own.

    One lock protects the protocol state and the socket: neither h2 nor a TLS connection is thread-safe.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        number: int,
        ledger: Ledger,
        clock: Clock,
        standing: Headers,
        serve: Callable[[Http2Exchange], None],
    ) -> None:
        self.changed = Condition()
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.gone = False
        self._wire = wire
        self._number = number
        self._ledger = ledger
        self._clock = clock
        self._standing = standing
        self._serve = serve
        self._how: How = "fin"
        self._streams: dict[int, Http2Exchange] = {}
        self._threads: list[Thread] = []

    def run(self) -> None:
        """Serve until either side ends the connection."""
        try:
            with self.changed:
                self.h2.initiate_connection()
                self.flush()
                self._take(self._wire.take(len(self._wire.buffer)))
            while not self.gone:
                self._wire.wait_readable()
                with self.changed:
                    if not self.gone:
                        self._take(self._wire.drain())
        except Gone:
            pass
        finally:
            with self.changed:
                self.gone = True
                self.changed.notify_all()
            for thread in self._threads:
                thread.join()
            self._wire.close(self._how)

    def flush(self) -> None:
        """Send the bytes that h2 has ready. The caller holds the lock."""
        if data := self.h2.data_to_send():
            self._wire.send(data)

    def end(self, how: How) -> None:
        """Let the reader close the connection. A request's thread calls it and holds the lock."""
        self._how, self.gone = how, True
        self.changed.notify_all()
        self._wire.wake(reading_only=True)

    def _take(self, data: bytes) -> None:
        try:
            events = self.h2.receive_data(data) if data else []
        except ProtocolError:
            self.flush()  # h2 has prepared the GOAWAY that says what was wrong
            raise Gone from None
        for event in events:
            self._on(event)
        self.flush()
        self.changed.notify_all()

    def _on(self, event: Event) -> None:
        match event:
            case RequestReceived(stream_id=int(number)):
                exchange = Http2Exchange(
                    self._received(number, event), self._ledger, self._clock, self._standing, connection=self
                )
                self._streams[number] = exchange
                thread = Thread(target=self._serve, args=(exchange,), name=f"hostile-stream-{number}", daemon=True)
                self._threads.append(thread)
                thread.start()
            case DataReceived(stream_id=int(number), data=bytes(data)):
                self._streams[number].body += data
                self.h2.acknowledge_received_data(event.flow_controlled_length or 0, number)
            case StreamEnded(stream_id=int(number)):
                self._streams[number].ended = True
            case StreamReset(stream_id=int(number)):
                self._streams[number].cancelled = True
            case ConnectionTerminated():
                self.gone = True
            case _:
                pass

    def _received(self, number: int, event: RequestReceived) -> Received:
        headers = [(_text(name), _text(value)) for name, value in event.headers]
        pseudo = {name: value for name, value in headers if name.startswith(":")}
        return Received(
            method=pseudo[":method"],
            target=pseudo.get(":path", ""),
            headers=(
                ("host", pseudo.get(":authority", "")),
                *((name, value) for name, value in headers if not name.startswith(":")),
            ),
            complete=False,
            connection=self._number,
            stream=number,
            arrived=self._clock.monotonic(),
        )


class Http2Exchange(Exchange):
    """One stream. The connection sets ``body``, ``ended`` and ``cancelled`` under its lock."""

    protocol = "http2"

    def __init__(
        self, request: Received, ledger: Ledger, clock: Clock, standing: Headers, *, connection: Http2Connection
    ) -> None:
        super().__init__(request, ledger, clock, standing)
        self.body = bytearray()
        self.ended = False
        self.cancelled = False
        self._connection = connection
        self._number = request.stream

    def receive(self, share: float) -> None:
        target = int(int(self.request.header("content-length") or 0) * share)
        with self._connection.changed:
            try:
                self._until(lambda: self.ended or share == 0 or (share < 1 and len(self.body) >= target))
            finally:
                body = bytes(self.body if share >= 1 else self.body[:target])
                self.request = dataclasses.replace(self.request, body=body, complete=self.ended and share >= 1)

    def start(self, status: int, headers: Headers, length: int | None) -> None:
        lines = [(":status", str(status)), *((name.lower(), value) for name, value in self.headers(headers))]
        if length is not None:
            lines.append(("content-length", str(length)))
        self._do(lambda h2: h2.send_headers(self._number, lines))

    def send(self, data: bytes) -> None:
        if self.request.method == "HEAD":
            return
        while data:
            sent = self._send_some(data)
            data = data[sent:]

    def end(self) -> None:
        self._do(lambda h2: h2.end_stream(self._number))

    def pause(self, seconds: float | None) -> None:
        with self._connection.changed:
            self._until(lambda: False, seconds)

    def close(self, how: How) -> None:
        with self._connection.changed:
            self._connection.end(how)

    def reset_stream(self, code: int) -> None:
        self._do(lambda h2: h2.reset_stream(self._number, code))

    def go_away(self, *, processed: bool) -> None:
        last = self._number if processed else max(0, self._number - 2)
        with self._connection.changed:  # nothing may be read in between: h2 would answer it with another GOAWAY
            self._do(lambda h2: h2.close_connection(ErrorCodes.NO_ERROR, last_stream_id=last))
            self._connection.end("fin")

    def _send_some(self, data: bytes) -> int:
        """Wait until the client's flow-control window is open, and return how many bytes it takes."""
        h2 = self._connection.h2
        with self._connection.changed:
            self._until(lambda: h2.local_flow_control_window(self._number) > 0)
            size = min(len(data), h2.local_flow_control_window(self._number), h2.max_outbound_frame_size)
            self._do(lambda h2: h2.send_data(self._number, data[:size]))
            return size

    def _do(self, act: Callable[[H2Connection], None]) -> None:
        with self._connection.changed:
            self._until(lambda: True)
            try:
                act(self._connection.h2)
            except ProtocolError as error:
                raise Gone from error  # the client has reset the stream, or the connection is going away
            self._connection.flush()

    def _until(self, ready: Callable[[], bool], timeout: float | None = None) -> None:
        """Wait until ``ready``. The caller holds the lock.

        :raises Gone: the stream or the connection has ended.
        """
        self._connection.changed.wait_for(lambda: self._lost or ready(), timeout)
        if self._lost:
            raise Gone

    @property
    def _lost(self) -> bool:
        return self.cancelled or self._connection.gone


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")
