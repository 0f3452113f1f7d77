"""Stream framing: where the events of an event stream end, and which of its bytes are whole events. Pure.

A stream that breaks off inside an event can still be ended with an error event, as long as the half event was not sent.
So only whole events leave, and only whole events are stored.

>>> buffer = UnitBuffer(EVENTS)
>>> buffer.add(b"data: 1\\n\\ndata:"), buffer.add(b" 2\\r\\n\\r"), buffer.add(b"\\n")
(b'data: 1\\n\\n', b'', b'data: 2\\r\\n\\r\\n')
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from flexmw.contract.content import EVENT_STREAM

__all__ = ["EVENTS", "LINES", "MAX_UNIT_BYTES", "Framing", "UnitBuffer", "framing_of"]

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


EVENTS: Final = Framing((b"\n\n", b"\n\r\n", b"\r\r"))
"""Server-sent events (WHATWG HTML section 9.2): an empty line ends an event. Lines end with LF, CRLF or CR."""

LINES: Final = Framing((b"\n",))
"""Newline-delimited JSON."""

_LONGEST_END: Final = max(map(len, (*EVENTS.ends, *LINES.ends)))
"""Bytes of the longest end of a unit."""

_HARMLESS_LINES: Final = (b":", b"retry:")
"""Beginnings of lines that may stand before an error event and change nothing of it: comments, and ``retry``."""

_LINE_END: Final = re.compile(rb"\r\n|\n|\r(?=[^\n])")
"""The end of a line of an event stream. A CR that is the last byte may be the first half of a CRLF."""

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


class UnitBuffer:
    """Takes the bytes of a stream as they come, and returns them as whole units.

    :ivar framing: where the units end.
    :ivar rest: the beginning of a unit whose end has not come yet.
    :ivar is_loose: True after a unit above :data:`MAX_UNIT_BYTES`: nothing is held back any more.
    """

    __slots__ = ("framing", "is_loose", "rest")

    def __init__(self, framing: Framing) -> None:
        self.framing = framing
        self.rest = bytearray()
        self.is_loose = False

    def add(self, data: bytes) -> bytes:
        """The whole units that end with ``data``; empty where none ends."""
        rest = self.rest
        # The rest has no end of a unit, so only an end that reaches into the new data can be there. Searching the whole
        # rest again made the cost of one event that comes in small pieces grow with the square of its length.
        size = len(rest)
        start = max(0, size - _LONGEST_END + 1)
        rest += data
        cut = len(rest) if self.is_loose else self.framing.cut(rest, start)
        if len(rest) - cut > MAX_UNIT_BYTES:
            self.is_loose, cut = True, len(rest)
        if not self.is_loose and self.framing is EVENTS:
            cut = _after_harmless_lines(rest, cut, size - 1)
        units = bytes(rest[:cut])
        del rest[:cut]
        return units


def _after_harmless_lines(data: bytearray, start: int, scanned: int) -> int:
    """The end of the whole lines at ``start`` that are comments or ``retry``: a half event may begin with them.

    :param scanned: the position before which no such line ends.
    """
    while data.startswith(_HARMLESS_LINES, start):
        end = _LINE_END.search(data, max(start, scanned))
        if end is None:
            break
        start = end.end()
    return start
