"""The end of an app: cancel the executions that its server has not waited for.

A server that stops waits for its requests, cancels what is left, and ends the lifespan of the app. A request with a key
goes on when it is cancelled, and uvicorn ends the process by a signal right after the lifespan. The ``finally`` blocks
of the app did not run, and the key counted as running until its lease was over. So the executions that are left at the
end of the lifespan are cancelled before the app shuts down what they use, and none begins after that.

Two servers may run one app in one event loop, each with a lifespan: the end of the last one is the end of the app.

Under trio nothing is left: a server cannot end before the work that is shielded from its cancellation.
"""

from __future__ import annotations

import logging
from asyncio import AbstractEventLoop, get_running_loop
from threading import get_ident
from typing import Final
from weakref import WeakKeyDictionary

from flexmw.idempotency import errors, running
from flexmw.kit.asgi import ASGIApp, Message, Receive, Scope, Send, send_error
from flexmw.kit.background import drain
from flexmw.kit.clock import SYSTEM

__all__ = ["END_SECONDS", "Lifespans"]

_LOGGER: Final = logging.getLogger("flexmw.idempotency")

END_SECONDS: Final = 2.0
"""Seconds that the end of an app waits for the executions that are cancelled."""


class Lifespans:
    """The lifespans of one app, by event loop.

    :param app: the app.
    :ivar ending: the threads whose event loops end the app.
    """

    __slots__ = ("_app", "_open", "ending")

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open: WeakKeyDictionary[AbstractEventLoop, set[object]] = WeakKeyDictionary()
        self.ending: set[int] = set()

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app for a lifespan, and end its executions before the app hears of the last shutdown."""
        try:
            loop = get_running_loop()
        except RuntimeError:  # trio
            await self._app(scope, receive, send)
            return
        thread, lifespan = get_ident(), object()
        lifespans = self._open.setdefault(loop, set())
        lifespans.add(lifespan)

        async def receiving() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                lifespans.discard(lifespan)
                if not lifespans:
                    self.ending.add(thread)
                    await self._end_executions()
            return message

        try:
            await self._app(scope, receiving, send)
        finally:
            lifespans.discard(lifespan)
            self.ending.discard(thread)

    def app_of(self, thread: int) -> ASGIApp:
        """The app for an execution that begins in a thread: while the app ends, one that responds with a 503."""
        return self._refuse if thread in self.ending else self._app

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_error(scope, send, errors.AppEnding(), self._app)

    async def _end_executions(self) -> None:
        """Cancel the executions of the app in this event loop, and wait until their outcomes are written."""
        generations = running.cut_off(self._app)
        if not generations:
            return
        _LOGGER.warning(
            "The app ends while executions with idempotency keys run (%d): they are cancelled, and a key without a "
            "response is unknown. Give the server more seconds to stop than the longest request takes.",
            len(generations),
        )
        await drain(lambda: running.left_of(generations), lambda _: None, seconds=END_SECONDS, clock=SYSTEM)
