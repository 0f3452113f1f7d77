"""Event streams: hold the head for a short time, forward whole events only, and hold the end until the app returns.

While the head is held, a failure still gets its own status. The first byte of the app ends the wait. A timer ends it
too (:meth:`Stream.open`): the first event may depend on something that the client does only after it has read the head.

After the end of a stream is sent, the stream cannot report a failure any more. FastAPI's own event streams end cleanly
before they raise: without the hold, a client would take half a response for the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import anyio
from anyio import move_on_after
from anyio.lowlevel import checkpoint

from flexmw.contract.stream_framing import Framing, UnitBuffer
from flexmw.envelope.last_body import LastBody
from flexmw.kit.asgi import Message, Send
from flexmw.kit.exchange import Exchange, dropped

__all__ = ["LAST_EVENT_SECONDS", "Stream"]

LAST_EVENT_SECONDS: Final = 1.0
"""Longest time to send the event that ends a failed stream. Without a limit, a client that does not read would hold the
request for ever. After this time the connection is cut, as it is without an Envelope."""


class Stream:
    """A streamed response.

    :param start: the start of the response. It is held until the first byte, or until :meth:`open`.
    :param finished: returns True for the last unit of a stream that is complete.
    :param last_unit: makes the unit that ends a failed stream, from the exception of the app and the last units.
    :param exchange: its observers get ``flexmw.stream.began`` and ``flexmw.stream.ended`` during the app's ``send``:
        when the end leaves later, an instrument inside the app has already ended its span.
    :param last_body: is marked when the app has sent its last body.
    :ivar opened: True when the start was sent, or is being sent.
    :ivar held: True when the app has sent its last body, and the end is held.
    :ivar ended: True when nothing more can be added.
    :ivar last: the last units that were sent, without comments.
    """

    __slots__ = (
        "_buffer",
        "_ends",
        "_exchange",
        "_finished",
        "_last_body",
        "_last_unit",
        "_opening",
        "_rest",
        "_send",
        "_start",
        "_trailers",
        "_trails",
        "_written",
        "ended",
        "framing",
        "held",
        "last",
        "opened",
    )

    def __init__(
        self,
        send: Send,
        start: Message,
        framing: Framing,
        finished: Callable[[bytes], bool],
        last_unit: Callable[[BaseException, bytes], bytes],
        exchange: Exchange,
        last_body: LastBody,
    ) -> None:
        self._send = send
        self._exchange = exchange
        self._last_body = last_body
        self._start: Message | None = start
        self._trails: bool = start.get("trailers", False)
        self._trailers: list[Message] = []
        self.framing = framing
        self._ends = framing.ends
        self._buffer = UnitBuffer(framing)
        self._rest = self._buffer.rest
        self._finished, self._last_unit = finished, last_unit
        self._opening: anyio.Event | None = None
        self._written = False
        self.last = b""
        self.opened = self.held = self.ended = False

    def drop(self) -> None:
        """Send nothing more to the server."""
        self._send = dropped

    @property
    def started(self) -> bool:
        """True when the start of the response was sent."""
        return self._start is None

    async def withhold(self) -> bool:
        """Drop the start of the response. Returns False if it was sent already."""
        if self._opening is not None:
            with move_on_after(LAST_EVENT_SECONDS):
                await self._opening.wait()
            return False
        start, self._start = self._start, None
        return start is not None

    async def body(self, message: Message) -> None:
        """Take a body message from the app."""
        if self.held:
            return
        data: bytes = message.get("body", b"")
        if message.get("more_body", False):
            if self._written and not self._rest and data.endswith(self._ends):
                if data[:1] != b":":
                    self.last = data
                await self._send(message)
            elif data:
                await self._forward(data)
            return
        self.held = True
        if data:
            await self._forward(data)
        complete = not self._rest and self._finished(self.last)
        if self._written:
            if not complete:
                # An app whose producer has raised (FastAPI) ends its stream cleanly and is then cancelled. This
                # checkpoint lets the cancellation happen here, before an observer takes the stream for a complete one.
                await checkpoint()
            self._exchange.emit("flexmw.stream.ended", {})
        if complete:
            await self.end()
        else:
            self._last_body.mark_sent()

    async def _forward(self, data: bytes) -> None:
        units = self._buffer.add(data)
        if units:
            await self._send_units(units)
        elif not self.held:
            await self.begin()

    async def _send_units(self, data: bytes) -> None:
        if not self._written:
            self._exchange.emit("flexmw.stream.began", {})
            await self.begin()
            self._written = True
        if data[:1] != b":":
            self.last = data
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def open(self) -> None:
        """Send the start of the response, unless it was sent. A timer calls this method while the app runs.

        The time to send is bounded: a client that does not read must not hold a request whose app has failed.
        """
        start = self._start
        if start is None:
            return
        self._opening = anyio.Event()
        self.opened = True
        try:
            with move_on_after(LAST_EVENT_SECONDS):
                await self._send(start)
        finally:
            self._start = None
            self._opening.set()

    async def begin(self) -> None:
        """Send the start of the response, unless it was sent."""
        if self._opening is not None:
            await self._opening.wait()
        start, self._start = self._start, None
        if start is not None:
            self.opened = True
            await self._send(start)

    async def end(self) -> None:
        """Send the rest and the end of the stream: the app has returned."""
        if not self.ended:
            self.ended = True
            await self.begin()
            await self._send({"type": "http.response.body", "body": bytes(self._rest), "more_body": False})
            for message in self._trailers:
                await self._send(message)

    async def add_trailers(self, message: Message) -> None:
        """Take trailers from the app. They are sent after the end."""
        if not self._trails:
            return
        if self.ended:
            await self._send(message)
        else:
            self._trailers.append(message)

    async def pass_on(self) -> None:
        """Send the start and the rest that are held. The caller forwards all further messages unchanged."""
        self.ended = True
        await self.begin()
        if self._rest:
            await self._send({"type": "http.response.body", "body": bytes(self._rest), "more_body": True})

    def failed_end(self, error: BaseException, last: bytes) -> bytes:
        """Return the unit that ends the stream if the app raises ``error``; empty if the stream is complete.

        :param last: the last units of the stream, without comments.
        """
        return b"" if self._finished(last) else self._last_unit(error, last)

    async def fail(self, error: BaseException) -> bool:
        """End the stream with an error event; an incomplete unit is dropped.

        :returns: False if the stream can only be cut.
        """
        if self.ended:
            return True
        if self._buffer.is_loose:
            return False
        self.ended = True
        last = self.failed_end(error, self.last)
        with move_on_after(LAST_EVENT_SECONDS) as limit:
            await self._send({"type": "http.response.body", "body": last, "more_body": False})
            if self._trails:
                with suppress(Exception):
                    # h2, and so hypercorn, cannot send an empty trailer section; the error event is sent.
                    await self._send({"type": "http.response.trailers", "headers": [], "more_trailers": False})
        return not limit.cancelled_caught
