"""The beginning of an event stream, held back until the user's function says that the response is a response.

Several providers begin a 200 and then send an error as the first event, or after events without output. Until the first
output the caller has seen nothing, so such a stream can be refused like a 429.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from typing import Any, Final, Literal

import flexmw

__all__ = [
    "MAX_BYTES",
    "MAX_EVENTS",
    "MAX_SECONDS",
    "Preamble",
    "PreambleEvent",
    "PreambleResult",
    "hold_back",
    "is_readable",
]

PreambleResult = Literal["wait", "commit", "refused"]
"""``wait``: nothing is decided, hold back. ``commit``: the caller gets the stream. ``refused``: the next upstream."""

MAX_BYTES: Final = 64 * 1024
MAX_EVENTS: Final = 64
MAX_SECONDS: Final = 5.0
"""Looked at when a piece of the stream arrives: a silent stream has nothing for the caller either."""

_END: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r|\r\n\n|\n\r\n")
_LINE: Final = re.compile(rb"\r\n|\n|\r")


class PreambleEvent(bytes):
    """One server-sent event as it arrived, without the blank line at its end.

    >>> event = PreambleEvent(b'event: error\\ndata: {"error": "overloaded"}')
    >>> event.name, event.data
    ('error', '{"error": "overloaded"}')
    """

    @property
    def name(self) -> str:
        """The field ``event``; ``message`` where there is none."""
        return next(iter(self._field(b"event")), "message")

    @property
    def data(self) -> str:
        """The lines of the field ``data``."""
        return "\n".join(self._field(b"data"))

    def _field(self, field: bytes) -> Iterator[str]:
        for line in _LINE.split(self):
            name, _, value = line.partition(b":")
            if name == field:
                yield value.removeprefix(b" ").decode("utf-8", "replace")


class Preamble:
    """Takes the pieces of a stream and asks the user's function about each whole event.

    :param function: the option ``preamble``.
    """

    def __init__(self, function: Callable[[Any], object]) -> None:
        self._function = function
        self._rest = b""
        self._events = 0
        self.result: PreambleResult = "wait"

    def take(self, piece: bytes) -> bool:
        """Look at the next piece, and return whether the stream is decided.

        :raises flexmw.ConfigError: the function returns something else.
        """
        self._rest += piece
        while self.result == "wait" and (end := _END.search(self._rest)) is not None:
            event, self._rest = PreambleEvent(self._rest[: end.start()]), self._rest[end.end() :]
            self._events += 1
            if not event.data:  # a comment that keeps the connection alive
                continue
            result: Any = self._function(event)
            if result not in ("wait", "commit", "refused"):
                expected = "a function that returns 'wait', 'commit' or 'refused'"
                raise flexmw.ConfigError("Fallback(preamble=...)", result, expected)
            self.result = result
        if self._events >= MAX_EVENTS and self.result == "wait":
            self.result = "commit"
        return self.result != "wait"


def hold_back(response: Any, function: Callable[[Any], object]) -> Generator[flexmw.Effect, Any, bool]:
    """Read an event stream until the function decides, or until a bound is reached; whoever reads the stream
    afterwards gets all of it.

    :returns: whether the stream is refused.
    """
    preamble = Preamble(function)
    yield flexmw.Read(response, MAX_BYTES, MAX_SECONDS, partial=True, until=preamble.take)
    return preamble.result == "refused"


def is_readable(response: Any) -> bool:
    """Whether a response is an event stream that can be read as it arrives."""
    headers = response.headers
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type == "text/event-stream" and headers.get("content-encoding", "identity") in ("", "identity")
