"""Client connection: send messages to the client of the first request, which may leave while the app still works."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from flexmw.idempotency.reading import is_disconnected
from flexmw.kit.asgi import Message, Receive, Send
from flexmw.kit.exchange import Exchange, dropped

__all__ = ["ClientConnection", "ClientGone"]


class ClientGone(OSError):
    """What ``send`` of the app raises when nobody reads its response any more, as ASGI 2.4 has it."""

    def __init__(self) -> None:
        super().__init__("the client is gone")


class ClientConnection:
    """The connection to the client, which may end while the app still works.

    :param receive: the ``receive`` of the request.
    :param send: sends the head of the response.
    :param send_body: sends the rest of it.
    :param exchange: that of the request.
    :ivar is_gone: the client has not got its whole response, as far as this end can know.
    :ivar has_left: the server has said that the connection has ended.
    """

    __slots__ = ("_exchange", "_receive", "_send_body", "failure", "has_left", "is_gone", "send_raw")

    def __init__(self, receive: Receive, send: Send, send_body: Send, exchange: Exchange) -> None:
        self._receive, self.send_raw, self._send_body, self._exchange = receive, send, send_body, exchange
        self.is_gone = self.has_left = False
        self.failure: Exception | None = None
        """What ``send`` has raised. It is raised again when the work is finished."""

    async def send_head(self, message: Message) -> None:
        """Send the head of the response."""
        await self.send(message)
        self.send_raw = self._send_body

    async def send(self, message: Message) -> None:
        """Send a message, until sending fails. The work goes on after a failure."""
        if self.failure is not None:
            return
        try:
            await self.send_raw(message)
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Note what ``send`` has raised. An ``OSError`` only says that the client has left."""
        self.is_gone = True
        if not isinstance(error, OSError):
            self.failure = error

    async def watch(self, has_responded: Callable[[], bool]) -> None:
        """Wait until the client leaves. One that leaves before its response is complete sends the request again."""
        self._exchange.drop = None
        with suppress(Exception):
            if not await is_disconnected(self._receive):
                return
            self.has_left = True
        if not has_responded():
            self.is_gone = True

    def drop_rest(self) -> None:
        """Send nothing more to the server, which has said that the connection has ended.

        The outermost component drops the rest, because the others may observe it. Where that is this one, bodies go
        past the exchange.
        """
        is_outermost = self._exchange.forward is self._send_body
        self._exchange.drop_rest()
        if is_outermost:
            self.send_raw = self._send_body = dropped

    @property
    def is_dropping(self) -> bool:
        """Whether nothing more is sent from here."""
        return self.send_raw is dropped
