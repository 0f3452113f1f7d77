"""Event streams: hold the head for a while, forward whole events only, and keep the end back until the app returns.

While the head is held, a failure still gets its own status. The first byte of the app ends the wait, and so does
:meth:`Stream.open`, which a timer calls: a client may need the head before it does what the first event waits for.

Once the end of a stream is sent, the stream can no longer report a failure: FastAPI's own event streams end cleanly
before they raise, and a client would take half a response for the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import anyio
from anyio import move_on_after
from anyio.lowlevel import checkpoint

from flexmw.contract.content import EVENT_STREAM
from flexmw.kit.asgi import Message, Send
from flexmw.kit.exchange import Exchange

__all__ = ["EVENTS", "LAST_EVENT_SECONDS", "LINES", "MAX_UNIT_BYTES", "Framing", "Stream", "framing_of"]

MAX_UNIT_BYTES: Final = 1024 * 1024
"""Longest event that is waited for. After a longer one the stream is forwarded as it comes, and can only be cut."""


@dataclass(frozen=True, slots=True)
class Framing:
    """Where the units of a stream end: events, or lines."""

    ends: tuple[bytes, ...]

    def cut(self, data: bytearray, start: int = 0) -> int:
        """How many bytes of whole units ``data`` begins with.

        :param start: the position to search from, in bytes. No unit ends before it.
        """
        return max((index + len(end) if (index := data.rfind(end, start)) >= 0 else 0) for end in self.ends)


EVENTS: Final = Framing((b"\n\n", b"\r\n\r\n", b"\r\r"))
"""Server-sent events (WHATWG HTML section 9.2): an empty line ends an event."""

LINES: Final = Framing((b"\n",))
"""Newline-delimited JSON."""

_LONGEST_END: Final = max(map(len, (*EVENTS.ends, *LINES.ends)))
"""Bytes of the longest end of a unit."""

_HARMLESS_LINES: Final = (b":", b"retry:")
"""Beginnings of lines that may stand before an error event and change nothing of it: comments, and ``retry``."""

LAST_EVENT_SECONDS: Final = 1.0
"""Longest time to send the event that ends a failed stream. A client that does not read would hold the request for as
long as it likes; it gets a connection that is cut, as from the app alone."""

_LINE_TYPES: Final = frozenset({b"application/x-ndjson", b"application/jsonl", b"application/x-jsonlines"})

_TYPE_LENGTH: Final = len(b"content-type")
_FIXED_LENGTHS: Final = frozenset({len(b"content-length"), len(b"content-encoding")})
_EVENT_STREAM_LENGTH: Final = len(EVENT_STREAM)


def framing_of(headers: Iterable[tuple[bytes, bytes]], *, lines: bool) -> Framing | None:
    """The framing of a stream that can be ended with an error; ``None`` for any other response.

    Runs for every response, so the length of a header's name is compared before its letters.

    :param lines: True to include newline-delimited JSON.
    """
    framing = None
    for name, value in headers:
        if len(name) == _TYPE_LENGTH and name.lower() == b"content-type":
            if value[:_EVENT_STREAM_LENGTH].lower() == EVENT_STREAM:
                framing = EVENTS
            elif lines and value.partition(b";")[0].strip().lower() in _LINE_TYPES:
                framing = LINES
            else:
                return None
        elif len(name) in _FIXED_LENGTHS and _is_fixed(name.lower(), value):
            return None
    return framing


def _is_fixed(name: bytes, value: bytes) -> bool:
    """True if nothing can be added to a body with this header: the body has a length, or is compressed."""
    return name == b"content-length" or (name == b"content-encoding" and value != b"identity")


class Stream:
    """One response that is a stream.

    :param start: the start of the response. It is held until the first byte, or until :meth:`open`, so that a failure
        before that still gets its own status.
    :param finished: returns True for the last unit of a stream that is complete.
    :param exchange: told that the start is sent. Its observers get ``flexmw.stream.began`` and ``flexmw.stream.ended``
        from inside the app's ``send``: when the end is sent, an instrument inside the app has already ended its span.
    :ivar held: True once the app has sent its last body; the end is kept back.
    :ivar ended: True once nothing more can be added.
    :ivar last: the last units that were sent, without comments.
    """

    __slots__ = (
        "_ends",
        "_exchange",
        "_finished",
        "_loose",
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
    )

    def __init__(
        self,
        send: Send,
        start: Message,
        framing: Framing,
        finished: Callable[[bytes], bool],
        exchange: Exchange,
    ) -> None:
        self._send = send
        self._exchange = exchange
        self._start: Message | None = start
        self._trails: bool = start.get("trailers", False)
        self._trailers: list[Message] = []
        self.framing = framing
        self._ends = framing.ends
        self._finished = finished
        self._opening: anyio.Event | None = None
        self._rest = bytearray()
        self._loose = self._written = False
        self.last = b""
        self.held = self.ended = False

    @property
    def started(self) -> bool:
        """True once the start of the response was sent."""
        return self._start is None

    async def withhold(self) -> bool:
        """Keep the start back for good. Returns False if it was sent."""
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

    async def _forward(self, data: bytes) -> None:
        rest = self._rest
        # The rest has no end of a unit, so only an end that reaches into the new data can be there. Searching the whole
        # rest again made the cost of one event that comes in small pieces grow with the square of its length.
        start = max(0, len(rest) - _LONGEST_END + 1)
        rest += data
        cut = len(rest) if self._loose else self.framing.cut(rest, start)
        if len(rest) - cut > MAX_UNIT_BYTES:
            self._loose, cut = True, len(rest)
        if not self._loose and self.framing is EVENTS:
            cut = _after_harmless_lines(rest, cut)
        units = bytes(rest[:cut])
        del rest[:cut]
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
        """Send the start of the response, unless it was sent. A timer calls it beside the app.

        The time to send is bounded: a client that does not read must not hold a request whose app has given up.
        """
        start = self._start
        if start is None:
            return
        self._opening = anyio.Event()
        self._exchange.stream_opened = True
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
            self._exchange.stream_opened = True
            await self._send(start)

    async def end(self) -> None:
        """Send the rest and the end of the stream: the app has returned."""
        if not self.ended:
            self.ended = True
            await self.begin()
            await self._send({"type": "http.response.body", "body": bytes(self._rest), "more_body": False})
            for message in self._trailers:
                await self._send(message)

    async def trail(self, message: Message) -> None:
        """Take trailers from the app; they are sent after the end."""
        if not self._trails:
            return
        if self.ended:
            await self._send(message)
        else:
            self._trailers.append(message)

    async def let_go(self) -> None:
        """Send what was kept back. From here on the app's messages pass as they come."""
        self.ended = True
        await self.begin()
        if self._rest:
            await self._send({"type": "http.response.body", "body": bytes(self._rest), "more_body": True})

    async def fail(self, event: Callable[[bytes], bytes]) -> bool:
        """End the stream with an error event; an incomplete unit is dropped.

        :param event: makes the error event, given the last units that were sent.
        :returns: False if the stream can only be cut.
        """
        if self.ended:
            return True
        if self._loose:
            return False
        self.ended = True
        last = b"" if self._finished(self.last) else event(self.last)
        with move_on_after(LAST_EVENT_SECONDS) as limit:
            await self._send({"type": "http.response.body", "body": last, "more_body": False})
            if self._trails:
                with suppress(Exception):
                    # h2, and so hypercorn, cannot send an empty trailer section; the error event is sent.
                    await self._send({"type": "http.response.trailers", "headers": [], "more_trailers": False})
        return not limit.cancelled_caught


def _after_harmless_lines(data: bytearray, start: int) -> int:
    """The end of the whole lines at ``start`` that are comments or ``retry``: a half event may begin with them."""
    while data.startswith(_HARMLESS_LINES, start):
        end = data.find(b"\n", start)
        if end < 0:
            break
        start = end + 1
    return start
