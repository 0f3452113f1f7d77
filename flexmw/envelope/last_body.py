"""Disconnect after the last body: ``receive()`` returns it to the app while the Envelope holds the end of the response.

A server sends ``http.disconnect`` to an app whose response is complete, and some apps wait for it before they return:
Litestar does so after every streamed response. The server does not send it while the Envelope holds the end of the
response until the app returns. So the Envelope sends it: otherwise the app and the Envelope would wait for each other.
"""

from __future__ import annotations

from anyio import CancelScope

from flexmw.kit.asgi import Message, Receive

__all__ = ["LastBody"]


class LastBody:
    """Knows whether the app has sent its last body, and ends the pending calls of ``receive()`` when it has.

    Each call runs in a cancel scope. A task group would wrap the errors of the server's ``receive()``.
    """

    __slots__ = ("_sent", "_waiting")

    def __init__(self) -> None:
        self._sent = False
        self._waiting: list[CancelScope] = []

    def mark_sent(self) -> None:
        """Record that the app has sent its last body. Each pending and each later call of :meth:`receive` ends at
        once."""
        self._sent = True
        for scope in self._waiting:
            scope.cancel()

    async def receive(self, receive: Receive) -> tuple[Message, bool]:
        """Call the server's ``receive()``.

        :returns: the message of the server and True; or ``http.disconnect`` and False, if the app sends its last body
            before the server's message arrives.
        """
        if not self._sent:
            scope = CancelScope()
            self._waiting.append(scope)
            try:
                with scope:
                    return await receive(), True
            finally:
                self._waiting.remove(scope)
        return {"type": "http.disconnect"}, False
