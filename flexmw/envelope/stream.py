"""Streams of events: forward whole ones only, and keep the end back until the host has ended well.

A stream whose end went out could not tell any more that it failed: FastAPI's own event streams end cleanly before they
raise, and a client would take half an answer for the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from anyio.lowlevel import checkpoint

from flexmw.kit.asgi import Message, Send

__all__ = ["EVENTS", "LINES", "Framing", "Stream", "framing_of"]

LONGEST: Final = 1024 * 1024
"""Bytes of an event that never ends, after which the stream is forwarded as it comes and can only be cut."""


@dataclass(frozen=True, slots=True)
class Framing:
    """Where a unit of a stream ends."""

    ends: tuple[bytes, ...]

    def cut(self, data: bytes) -> int:
        """The length of the whole units at the front of ``data``."""
        return max((at + len(end) if (at := data.rfind(end)) >= 0 else 0) for end in self.ends)


EVENTS: Final = Framing((b"\n\n", b"\r\n\r\n", b"\r\r"))
"""Server-sent events (WHATWG HTML section 9.2): an empty line ends each."""

LINES: Final = Framing((b"\n",))
"""Newline-delimited JSON."""

_LINES: Final = frozenset({b"application/x-ndjson", b"application/jsonl", b"application/x-jsonlines"})


def framing_of(headers: Iterable[tuple[bytes, bytes]], *, lines: bool) -> Framing | None:
    """The framing of a response whose stream can be ended with an error; ``None``: it passes as it comes."""
    framing = None
    for name, value in headers:
        if len(name) == 12 and name.lower() == b"content-type":
            if value[:17].lower() == b"text/event-stream":
                framing = EVENTS
            elif lines and value.partition(b";")[0].strip().lower() in _LINES:
                framing = LINES
            else:
                return None
        elif len(name) in (14, 16) and _is_fixed(name.lower(), value):
            return None
    return framing


def _is_fixed(name: bytes, value: bytes) -> bool:
    """Whether a header says that nothing can be added to a body: it has a length, or is compressed."""
    return name == b"content-length" or (name == b"content-encoding" and value != b"identity")


class Stream:
    """One response that is a stream. ``start`` is sent with the first byte, so that a failure before it can still be
    answered with its own status.

    ``tell`` hears ``flexmw.stream.began`` and ``flexmw.stream.ended`` from inside the host's ``send``: when the end
    goes out, an instrument inside the host has closed its span.
    """

    __slots__ = (
        "_ends",
        "_finished",
        "_loose",
        "_rest",
        "_send",
        "_start",
        "_tell",
        "_trailers",
        "_trails",
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
        tell: Callable[[str, Mapping[str, Any]], None],
    ) -> None:
        self._send = send
        self._tell = tell
        self._start: Message | None = start
        self._trails: bool = start.get("trailers", False)
        self._trailers: list[Message] = []
        self.framing = framing
        self._ends = framing.ends
        self._finished = finished
        self._rest = b""
        self._loose = False
        self.last = b""
        self.held = self.ended = False

    @property
    def started(self) -> bool:
        return self._start is None

    @property
    def start(self) -> Message | None:
        """The start that was not sent yet."""
        return self._start

    async def body(self, message: Message) -> None:
        """Take a body message from the host."""
        if self.held:
            return
        data: bytes = message.get("body", b"")
        if message.get("more_body", False):
            if self._start is None and not self._rest and data.endswith(self._ends):
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
        if self.started:
            if not complete:
                # A host whose producer has raised (FastAPI) ends its stream well and is then cancelled: here, if it may
                # be, so that nobody inside takes the stream for a complete one.
                await checkpoint()
            self._tell("flexmw.stream.ended", {})
        if complete:
            await self.end()

    async def _forward(self, data: bytes) -> None:
        data = self._rest + data
        cut = len(data) if self._loose else self.framing.cut(data)
        if len(data) - cut > LONGEST:
            self._loose, cut = True, len(data)
        self._rest = data[cut:]
        if cut:
            await self._emit(data[:cut])

    async def _emit(self, data: bytes) -> None:
        if not self.started:
            self._tell("flexmw.stream.began", {})
            await self.begin()
        if data[:1] != b":":
            self.last = data
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def begin(self) -> None:
        """Send the start, unless it is out."""
        start, self._start = self._start, None
        if start is not None:
            await self._send(start)

    async def end(self) -> None:
        """Send what is left and the end: the host has ended well."""
        if not self.ended:
            self.ended = True
            await self.begin()
            await self._send({"type": "http.response.body", "body": self._rest, "more_body": False})
            for message in self._trailers:
                await self._send(message)

    async def trail(self, message: Message) -> None:
        """Take trailers from the host: they follow the end, which may be kept back."""
        if not self._trails:
            return
        if self.ended:
            await self._send(message)
        else:
            self._trailers.append(message)

    async def let_go(self) -> None:
        """Send what is here and leave the rest to the host."""
        self.ended = True
        await self.begin()
        if self._rest:
            await self._send({"type": "http.response.body", "body": self._rest, "more_body": True})

    async def fail(self, event: Callable[[bytes], bytes]) -> bool:
        """End the stream with an error in it; half a unit is dropped. ``False``: it can only be cut."""
        if self.ended:
            return True
        if self._loose:
            return False
        self.ended = True
        last = b"" if self._finished(self.last) else event(self.last)
        await self._send({"type": "http.response.body", "body": last, "more_body": False})
        if self._trails:
            with suppress(Exception):  # h2, and so hypercorn, cannot send an empty section: the failure is told already
                await self._send({"type": "http.response.trailers", "headers": [], "more_trailers": False})
        return True
