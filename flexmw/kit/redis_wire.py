"""The wire format of redis and valkey, RESP2 and RESP3: commands to bytes, and bytes to replies.

>>> pack("SET", "k", b"v", 1)
b'*4\\r\\n$3\\r\\nSET\\r\\n$1\\r\\nk\\r\\n$1\\r\\nv\\r\\n$1\\r\\n1\\r\\n'
>>> reader = ReplyReader()
>>> reader.feed(b"*2\\r\\n:1\\r\\n$2\\r\\na"), reader.feed(b"b\\r\\n+OK\\r\\n")
([], [[1, b'ab'], b'OK'])

redis-py makes the connection and authenticates it. The asyncio parser of redis-py awaits each line of a reply. That
costs more than the rest of a command, and commands cannot share the parser. So the replies are read here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from redis.exceptions import InvalidResponse, NoScriptError, ResponseError

__all__ = ["ReplyReader", "pack"]

_END: Final = b"\r\n"


def pack(*values: str | bytes | int) -> bytes:
    """A command as bytes."""
    parts: list[int | bytes] = []
    for value in values:
        data = value if type(value) is bytes else str(value).encode()
        parts += len(data), data
    return _format(len(values)) % tuple(parts)


@lru_cache(maxsize=256)
def _format(number: int) -> bytes:
    """The format string of a command with this number of values. One formatting costs half of formatting each value."""
    return b"*%d\r\n" % number + b"$%d\r\n%b\r\n" * number


class _Incomplete(Exception):
    """The bytes that have arrived end within a reply.

    :param wanted: the position up to which bytes are needed at least.
    """

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted


class ReplyReader:
    """Reads the replies of one connection. An error that the server sends is a value, also inside another reply.

    Messages that the server sends without a command (``>`` in RESP3) are left out.
    """

    __slots__ = ("_chunks", "_size", "_wanted")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        """The bytes of a reply that is not complete yet."""
        self._size = self._wanted = 0

    def feed(self, data: bytes) -> list[Any]:
        """The replies that are complete with these bytes.

        :raises InvalidResponse: for bytes that are no reply. The connection is of no use afterwards.
        """
        if self._chunks:
            self._chunks.append(data)
            self._size += len(data)
            if self._size < self._wanted:
                return []
            data = b"".join(self._chunks)
            self._chunks.clear()
        replies: list[Any] = []
        position, end = 0, len(data)
        while position < end:
            try:
                reply, after = _reply(data, position)
            except _Incomplete as incomplete:
                self._chunks.append(data[position:])
                self._size, self._wanted = end - position, incomplete.wanted - position
                break
            except (ValueError, RecursionError) as error:
                raise InvalidResponse(f"Protocol Error: {data[position : position + 40]!r}") from error
            if data[position] != _PUSH:
                replies.append(reply)
            position = after
        return replies


def _reply(data: bytes, position: int) -> tuple[Any, int]:
    """The reply at a position, and the position after it."""
    end = data.find(_END, position)
    if end < 0:
        raise _Incomplete(len(data) + 1)
    kind, after = data[position], end + 2
    if kind == _BULK:
        size = int(data[position + 1 : end])
        if size < 0:
            return None, after
        stop = after + size
        if len(data) < stop + 2:
            raise _Incomplete(stop + 2)
        return data[after:stop], stop + 2
    if kind == _INTEGER:
        return int(data[position + 1 : end]), after
    read = _OTHERS.get(kind)
    if read is None:
        raise InvalidResponse(f"Protocol Error: {data[position : position + 40]!r}")
    return read(data, position + 1, end)


def _array(data: bytes, start: int, end: int) -> tuple[Any, int]:
    size, after = int(data[start:end]), end + 2
    if size < 0:
        return None, after
    values: list[Any] = []
    for _ in range(size):
        value, after = _reply(data, after)
        values.append(value)
    return values, after


def _map(data: bytes, start: int, end: int) -> tuple[Any, int]:
    values: dict[Any, Any] = {}
    after = end + 2
    for _ in range(int(data[start:end])):
        key, after = _reply(data, after)
        value, after = _reply(data, after)
        values[repr(key) if isinstance(key, list | dict) else key] = value
    return values, after


def _attributes(data: bytes, start: int, end: int) -> tuple[Any, int]:
    """Skip the attributes of a reply (RESP3), and return the reply that follows them."""
    _, after = _map(data, start, end)
    return _reply(data, after)


def _text(data: bytes, start: int, end: int) -> tuple[Any, int]:
    return data[start:end], end + 2


def _null(data: bytes, start: int, end: int) -> tuple[Any, int]:
    return None, end + 2


def _boolean(data: bytes, start: int, end: int) -> tuple[Any, int]:
    return data[start:end] == b"t", end + 2


def _double(data: bytes, start: int, end: int) -> tuple[Any, int]:
    return float(data[start:end]), end + 2


def _big_number(data: bytes, start: int, end: int) -> tuple[Any, int]:
    return int(data[start:end]), end + 2


def _error(data: bytes, start: int, end: int) -> tuple[Any, int]:
    return _error_of(data[start:end]), end + 2


def _blob_error(data: bytes, start: int, end: int) -> tuple[Any, int]:
    text, after = _blob(data, start, end)
    return _error_of(text), after


def _blob(data: bytes, start: int, end: int) -> tuple[bytes, int]:
    stop = end + 2 + int(data[start:end])
    if len(data) < stop + 2:
        raise _Incomplete(stop + 2)
    return data[end + 2 : stop], stop + 2


def _verbatim(data: bytes, start: int, end: int) -> tuple[Any, int]:
    text, after = _blob(data, start, end)
    return text[4:], after  # without its format, as in "txt:"


def _error_of(text: bytes) -> ResponseError:
    message = text.decode("utf-8", "replace").removeprefix("ERR ")
    return NoScriptError(message) if message.startswith("NOSCRIPT") else ResponseError(message)


_PUSH: Final = ord(">")
_BULK: Final = ord("$")
_INTEGER: Final = ord(":")
_OTHERS: Final[dict[int, Callable[[bytes, int, int], tuple[Any, int]]]] = {
    ord(kind): read
    for kind, read in {
        "*": _array,
        "~": _array,
        ">": _array,
        "%": _map,
        "|": _attributes,
        "+": _text,
        "-": _error,
        "!": _blob_error,
        "=": _verbatim,
        "_": _null,
        "#": _boolean,
        ",": _double,
        "(": _big_number,
    }.items()
}
