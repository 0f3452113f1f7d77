"""The disconnect after an app's last body: what ``receive()`` returns while the Envelope keeps that body back.

A server sends ``http.disconnect`` to an app whose response is complete, and some apps wait for it before they return:
Litestar does so after every streamed response. The server cannot send it while the Envelope keeps the end of the
response back until the app returns, so the Envelope sends it itself. Without it both would wait for ever.
"""

from __future__ import annotations

from anyio import CancelScope

from flexmw.kit.asgi import Message, Receive

__all__ = ["LastBody"]


class LastBody:
    """Whether the app has sent its last body, and the calls of ``receive()`` that end when it has.

    The calls are ended by a cancel scope each. A task group would wrap the errors of the server's ``receive()``.
    """

    __slots__ = ("_sent", "_waiting")

    def __init__(self) -> None:
        self._sent = False
        self._waiting: list[CancelScope] = []

    def sent(self) -> None:
        """The app has sent its last body: end every call of :meth:`receive`, now and later."""
        self._sent = True
        for scope in self._waiting:
            scope.cancel()

    async def receive(self, receive: Receive) -> tuple[Message, bool]:
        """Call the server's ``receive()``.

        :returns: its message and True, or ``http.disconnect`` and False if the app has sent its last body before.
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
