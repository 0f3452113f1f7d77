"""The head of a response as the log of the response carries it: one line of JSON. Pure.

>>> LogHead.decode(LogHead(200, (("content-type", "text/event-stream"),)).encode())
LogHead(status=200, headers=(('content-type', 'text/event-stream'),))
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple, Self

__all__ = ["LogHead"]


class LogHead(NamedTuple):
    """The head of a response.

    :param status: the HTTP status.
    :param headers: the headers that belong to the result, with lower-case names.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()

    def encode(self) -> bytes:
        """The head as bytes."""
        return json.dumps([self.status, self.headers], separators=(",", ":")).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Self:
        """The inverse of :meth:`encode`.

        :raises ValueError: for bytes that :meth:`encode` did not write.
        """
        try:
            status, headers = json.loads(line)
            pairs = tuple((str(name), str(value)) for name, value in headers)
        except (ValueError, TypeError) as error:
            raise ValueError("not the head of a logged response") from error
        return cls(_whole(status), pairs)


def _whole(status: Any) -> int:
    if type(status) is not int:
        raise ValueError("the status of a logged response must be a whole number")
    return status
