"""Read usage from the body of a response while its chunks pass: JSON, server-sent events or lines of JSON. Pure.

Nothing is held back: a reader gets each chunk, and keeps a bounded part of it. The chunks may be split anywhere.

>>> from flexmw.ratelimit.usage_formats import OpenAIUsage
>>> body = EventsBody(OpenAIUsage())
>>> body.add(b'data: {"choices": [{"delta": {"content": "Hi"}}]}\\n\\ndata: {"usage": {"total_')
>>> body.add(b'tokens": 7}}\\n\\ndata: [DONE]\\n\\n')
>>> body.finish().total_tokens
7
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Protocol, cast

from flexmw.ratelimit.aws_frames import Frames
from flexmw.ratelimit.usage import Usage, UsageReader

__all__ = [
    "MAX_EVENT_BYTES",
    "MAX_JSON_BYTES",
    "TAIL_BYTES",
    "EventsBody",
    "FramesBody",
    "JSONBody",
    "LinesBody",
    "ReadBody",
    "body_of",
]

MAX_JSON_BYTES: Final = 256 * 1024
"""The longest JSON body that is parsed whole. Of a longer one, such as a batch of embeddings, the end is searched."""

MAX_EVENT_BYTES: Final = 1024 * 1024
"""The longest event that is parsed whole. Of a longer one the end is searched."""

TAIL_BYTES: Final = 16 * 1024
"""The bytes that are kept of the beginning and of the end of a longer body or event. Nearly all APIs report usage
behind the output; llama.cpp's embeddings report it in front."""

_GAP: Final = b"\0"
"""What stands for the missing middle. It is in no JSON, so a value that was cut off there cannot be read."""

_LINE_ENDS: Final = re.compile(rb"[\r\n]+")
_ONE_LINE_END: Final = frozenset({b"\r\n", b"\n", b"\r"})
_FIELD: Final = re.compile(r'(?<!\\)"(usage|usageMetadata|meta|model|modelVersion)"\s*:\s*')
"""The fields that are looked for in a text without its middle."""

_LINES: Final = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines", "application/stream+json")
_DATA: Final = b"data:"
_DONE: Final = b"[DONE]"
_DECODER: Final = json.JSONDecoder()


class ReadBody(Protocol):
    """The body of one response."""

    is_stream: bool
    """True if the body has parts that are counted."""

    outputs: int
    """The events since the last report of usage that are parts of the model's output."""

    def add(self, chunk: bytes) -> None:
        """Take the next chunk."""
        ...

    def finish(self) -> Usage | None:
        """The usage, once the last chunk was taken. May be called before, for what is known by then."""
        ...


def body_of(content_type: str, reader: UsageReader) -> ReadBody | None:
    """The reader of a body with this ``Content-Type``; ``None`` for a type that cannot report usage."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "text/event-stream":
        return EventsBody(reader)
    if media_type in _LINES:
        return LinesBody(reader)
    if media_type == "application/vnd.amazon.eventstream":
        return FramesBody(reader)
    if media_type == "application/json" or media_type.endswith("+json"):
        return JSONBody(reader)
    return None


def _objects(text: bytes, *, is_whole: bool) -> list[Mapping[str, Any]]:
    """The JSON object that a text is, or those of an array; of a text without its middle, the last of each of its
    fields with usage."""
    if not is_whole:
        ends = text.decode("utf-8", "replace")
        fields: dict[str, Any] = {}
        for match in _FIELD.finditer(ends):
            with suppress(ValueError, RecursionError):
                found = _DECODER.raw_decode(ends, match.end())[0]
                # A client can choose names and texts that are echoed behind the usage, such as those of metadata.
                if isinstance(found, str if match[1].startswith("model") else dict):
                    fields[match[1]] = found
        return [fields]
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return []
    values: list[Any] = value if isinstance(value, list) else [value]
    return [cast("Mapping[str, Any]", item) for item in values if isinstance(item, dict)]


class _Ends:
    """A text that is kept whole up to a limit; of a longer one the beginning and the end are kept."""

    __slots__ = ("_data", "_head", "_limit", "_size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._data = bytearray()
        self._head = b""

    def add(self, data: bytes) -> None:
        self._size += len(data)
        self._data += data
        if self._size > self._limit and len(self._data) > 2 * TAIL_BYTES:
            if not self._head:
                self._head = bytes(self._data[:TAIL_BYTES])
            del self._data[:-TAIL_BYTES]

    def take(self) -> tuple[bytes, bool]:
        """The text, and whether it is whole. Begins a new one."""
        is_whole = self._size <= self._limit
        data = bytes(self._data) if is_whole else self._head + _GAP + self._data[-TAIL_BYTES:]
        self._data.clear()
        self._head = b""
        self._size = 0
        return data, is_whole


class JSONBody:
    """The body of a response that is one JSON object, or a JSON array of them."""

    __slots__ = ("_reader", "_text", "_usage", "is_stream", "outputs")

    def __init__(self, reader: UsageReader) -> None:
        self._reader = reader
        self._text = _Ends(MAX_JSON_BYTES)
        self._usage: Usage | None = None
        self.is_stream = False
        self.outputs = 0

    def add(self, chunk: bytes) -> None:
        self._text.add(chunk)

    def finish(self) -> Usage | None:
        text, is_whole = self._text.take()
        if self._reader.marker in text:
            for value in _objects(text, is_whole=is_whole):
                self._usage = self._reader.read(value, self._usage)
        return self._usage


class _UnitsBody:
    """A body of many JSON objects."""

    __slots__ = ("_after_cr", "_line", "_reader", "_usage", "is_stream", "outputs")

    def __init__(self, reader: UsageReader) -> None:
        self._reader = reader
        self._line = _Ends(MAX_EVENT_BYTES)
        self._usage: Usage | None = None
        self._after_cr = False
        self.is_stream = True
        self.outputs = 0

    def add(self, chunk: bytes) -> None:
        if self._after_cr and chunk:
            # A CR has ended its line already; the LF of a CRLF ends no other one.
            self._after_cr = False
            if chunk[:1] == b"\n":
                chunk = chunk[1:]
        if not chunk:
            return
        self._after_cr = chunk.endswith(b"\r")
        start = 0
        for ends in _LINE_ENDS.finditer(chunk):
            self._extend(chunk[start : ends.start()])
            self._end_line()
            if ends[0] not in _ONE_LINE_END:
                self._end_line()  # one empty line stands for any number of them
            start = ends.end()
        if start < len(chunk):
            self._extend(chunk[start:])

    def finish(self) -> Usage | None:
        self._end_line()
        self._end_unit()
        return self._usage

    def _extend(self, data: bytes) -> None:
        self._line.add(data)

    def _end_line(self) -> None:
        raise NotImplementedError

    def _end_unit(self) -> None:
        """Nothing is left where each line is a unit."""

    def _read(self, data: bytes, *, is_whole: bool) -> None:
        """Read the JSON of one unit."""
        if not data or data == _DONE:
            return
        reader = self._reader
        self.outputs += not is_whole or reader.has_output(data)
        if reader.marker in data:
            for value in _objects(data, is_whole=is_whole):
                usage = reader.read(value, self._usage)
                if usage is not self._usage:
                    self._usage, self.outputs = usage, 0


class LinesBody(_UnitsBody):
    """Newline-delimited JSON."""

    __slots__ = ()

    def _end_line(self) -> None:
        data, is_whole = self._line.take()
        self._read(data.strip(), is_whole=is_whole)


class EventsBody(_UnitsBody):
    """Server-sent events (WHATWG HTML section 9.2). The data of an event may have several lines."""

    __slots__ = ("_data", "_field", "_has_data")

    def __init__(self, reader: UsageReader) -> None:
        super().__init__(reader)
        self._data = _Ends(MAX_EVENT_BYTES)
        self._field = b""
        self._has_data = False

    def add(self, chunk: bytes) -> None:
        # Most chunks are one event with one line of data: no need to look for the ends of its lines.
        if (
            chunk.startswith(_DATA)
            and chunk.endswith(b"\n\n")
            and chunk.count(b"\n") == 2
            and b"\r" not in chunk
            and len(chunk) <= MAX_EVENT_BYTES
            and not (self._has_data or self._field or self._after_cr)
        ):
            self._read(chunk[len(_DATA) : -2].strip(), is_whole=True)
        else:
            super().add(chunk)

    def _extend(self, data: bytes) -> None:
        missing = len(_DATA) - len(self._field)
        if missing:
            # The name of the field is known after five bytes; the rest of the line is data, or is skipped.
            self._field += data[:missing]
            data = data[missing:]
            if self._field == _DATA:
                if self._has_data:
                    self._data.add(b"\n")
                self._has_data = True
        if data and self._field == _DATA:
            self._data.add(data)

    def _end_line(self) -> None:
        is_empty = not self._field
        self._field = b""
        if is_empty:
            self._end_unit()

    def _end_unit(self) -> None:
        if self._has_data:
            self._has_data = False
            data, is_whole = self._data.take()
            self._read(data.strip(), is_whole=is_whole)


class FramesBody(_UnitsBody):
    """The event stream of AWS. A payload of Bedrock's ``InvokeModel`` has the event of the model in base64."""

    __slots__ = ("_frames",)

    def __init__(self, reader: UsageReader) -> None:
        super().__init__(reader)
        self._frames = Frames()

    def add(self, chunk: bytes) -> None:
        for payload in self._frames.add(chunk):
            if payload is None:
                self.outputs += 1
            else:
                self._read(_event_of(payload), is_whole=True)

    def finish(self) -> Usage | None:
        return self._usage


def _event_of(payload: bytes) -> bytes:
    if not payload.startswith(b'{"bytes"'):
        return payload
    for value in _objects(payload, is_whole=True):
        with suppress(ValueError, TypeError):
            return b64decode(value["bytes"])
    return payload
