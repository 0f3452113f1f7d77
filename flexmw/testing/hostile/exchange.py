"""One request and its response, independent of the protocol: the operations from which faults are made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from flexmw.kit.clock import Clock
from flexmw.testing.hostile.good import Good, answer_to
from flexmw.testing.hostile.ledger import Ledger
from flexmw.testing.hostile.received import Received
from flexmw.testing.hostile.waits import Headers, http_date
from flexmw.testing.hostile.wire import How

__all__ = ["Exchange", "Protocol"]

Protocol = Literal["http1", "http2"]


class Exchange(ABC):
    """What a fault works with. ``request`` is the part of the request that was read.

    Every operation on the connection raises :class:`~flexmw.testing.hostile.wire.Gone` once the client has left. A
    fault does not catch it.
    """

    protocol: ClassVar[Protocol]

    def __init__(self, request: Received, ledger: Ledger, clock: Clock, standing: Headers) -> None:
        self.request = request
        self._ledger = ledger
        self._clock = clock
        self._standing = standing
        self._good: Good | None = None

    @property
    def now(self) -> float:
        """The time of the server's wall clock, in Unix seconds."""
        return self._clock.now()

    @property
    def good(self) -> Good:
        """The good response to this request."""
        return self._good or answer_to(self.request, 0)

    def execute(self) -> None:
        """Do the work: count one execution. A ``CONNECT`` and a key that was executed before count none."""
        if self.request.method != "CONNECT":
            self._good = self._ledger.execute(self.request)

    def headers(self, headers: Headers) -> Headers:
        """Return the headers of a response, with those that every response of this server has."""
        given = {name.lower() for name, _ in headers}
        own: Headers = (("Date", http_date(self.now)), *self._standing)
        return (*(pair for pair in own if pair[0].lower() not in given), *headers)

    @abstractmethod
    def receive(self, share: float) -> None:
        """Read this share of the body, 0.0 to 1.0, into ``request``."""

    @abstractmethod
    def start(self, status: int, headers: Headers, length: int | None) -> None:
        """Send the head.

        :param length: the bytes of the body; ``None`` for a chunked body.
        """

    @abstractmethod
    def send(self, data: bytes) -> None:
        """Send a piece of the body."""

    @abstractmethod
    def end(self) -> None:
        """End the body."""

    @abstractmethod
    def pause(self, seconds: float | None) -> None:
        """Wait for so many seconds; ``None``: for ever."""

    @abstractmethod
    def close(self, how: How) -> None:
        """End the connection."""

    def raw(self, data: bytes) -> None:
        """HTTP/1.1 only: write bytes that need not be HTTP."""
        raise NotImplementedError

    def drop_next(self, how: How) -> None:
        """HTTP/1.1 only: wait for the next request on this connection and close without reading it."""
        raise NotImplementedError

    def tunnel(self) -> None:
        """HTTP/1.1 only: accept a ``CONNECT`` and speak TLS as the host that the client asked for."""
        raise NotImplementedError

    def reset_stream(self, code: int) -> None:
        """HTTP/2 only: RST_STREAM with this error code; the connection lives on."""
        raise NotImplementedError

    def go_away(self, *, processed: bool) -> None:
        """HTTP/2 only: GOAWAY that does or does not cover this stream, then the end of the connection."""
        raise NotImplementedError
