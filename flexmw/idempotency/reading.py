"""Read the body of a request before the app runs, with a bound on the bodies that all requests of an app hold.

>>> budget = BodyBudget(100)
>>> budget.take(60), budget.take(60)
(True, False)
>>> budget.give_back(60)
>>> budget.take(60)
True
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from flexmw.kit.asgi import Message, Receive

__all__ = ["BodyBudget", "ReadResult", "RequestBody", "is_disconnected"]

ReadResult: TypeAlias = Literal["whole", "left", "too_large", "too_many"]
"""How reading a body ended: it was read; the client has left; the body is too large; the bodies of all requests are."""

_LENGTH_DIGITS: Final = 15
"""Digits of the longest ``Content-Length`` that is read as a number."""


_MAX_REPEATS: Final = 8
"""Messages after the end of the body, of a server that repeats the end."""


async def is_disconnected(receive: Receive) -> bool:
    """Wait until the client of a request whose whole body was read leaves.

    :returns: False where the server says nothing of its client: some adapters repeat the end of the body for ever, and
        at once, so that waiting for the disconnect would hold the event loop up.
    """
    for _ in range(_MAX_REPEATS):
        if (await receive())["type"] != "http.request":
            return True
    return False


class BodyBudget:
    """A budget of bytes for the request bodies that are held at once.

    :param limit: the largest number of bytes.
    """

    __slots__ = ("_held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = 0

    def take(self, size: int) -> bool:
        """Take ``size`` bytes from the budget. Returns False, and takes none, if the budget has fewer left."""
        if self._held + size > self.limit:
            return False
        self._held += size
        return True

    def give_back(self, size: int) -> None:
        """Return bytes to the budget: the app has received the body, or the request is over."""
        self._held -= size


class RequestBody:
    """The body of one request.

    :param receive: the ``receive`` of the request.
    :param budget: the bytes of all bodies that are held.
    :ivar data: what was read of the body.
    """

    __slots__ = ("_budget", "_has_more", "_held", "_is_unread", "_receive", "data")

    def __init__(self, receive: Receive, budget: BodyBudget) -> None:
        self._receive, self._budget = receive, budget
        self._has_more, self._is_unread = True, True
        self._held = 0
        self.data = b""

    async def read(self, max_request: int, announced: bytes) -> ReadResult:
        """Read the body.

        :param max_request: bytes of the body at most.
        :param announced: the ``Content-Length`` of the request; empty without one.
        """
        limit = min(max_request, self._budget.limit)
        if announced.isdigit() and (len(announced) > _LENGTH_DIGITS or int(announced) > limit):
            return "too_large"
        chunks: list[bytes] | None = None
        size = 0
        while self._has_more:
            message = await self._receive()
            if message["type"] != "http.request":
                return "left"
            chunk = message.get("body", b"")
            self._has_more = message.get("more_body", False)
            if not self._has_more and chunks is None and type(chunk) is bytes:
                # Most bodies come in one message.
                self.data = chunk
                if len(chunk) > limit:
                    return "too_large"
                if not self._budget.take(len(chunk)):
                    return "too_many"
                self._held = len(chunk)
                return "whole"
            if chunks is None:
                chunks = []
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                break
            if not self._budget.take(len(chunk)):
                return "too_many"
            self._held += len(chunk)
        self.data = b"".join(chunks or ())
        return "whole" if size <= limit else "too_large"

    def take(self) -> bytes:
        """Return the body, which is not held here any more."""
        data, self.data = self.data, b""
        return data

    def let_go(self) -> None:
        """Give the bytes of the body back to the budget."""
        if self._held:
            held, self._held = self._held, 0
            self._budget.give_back(held)

    async def receive_again(self) -> Message:
        """``receive`` for the app of a request that was read, in part or whole, and is not protected after all."""
        if self._is_unread:
            self._is_unread = False
            return {"type": "http.request", "body": self.data, "more_body": self._has_more}
        return await self._receive()
