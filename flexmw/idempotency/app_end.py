"""The end of an app: cancel the executions that its server has not waited for.

A server that stops waits for its requests, cancels what is left, and ends the lifespan of the app. A request with a key
goes on when it is cancelled, and uvicorn ends the process by a signal right after the lifespan. The ``finally`` blocks
of the app did not run, and the key counted as running until its lease was over. So the executions that are left at the
end of the lifespan are cancelled before the app shuts down what they use, and none begins after that.

An app that is mounted in another one has no lifespan, and some servers are told to run none. Nothing tells the end
then, which the log says once.

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
from flexmw.idempotency.side_tasks import current_task
from flexmw.kit.asgi import ASGIApp, Message, Receive, Scope, Send, send_error
from flexmw.kit.background import drain
from flexmw.kit.clock import SYSTEM
from flexmw.kit.lifespan import run_lifespan

__all__ = ["END_SECONDS", "Lifespans"]

_LOGGER: Final = logging.getLogger("flexmw.idempotency")

END_SECONDS: Final = 2.0
"""Seconds that the end of an app waits for the executions that are cancelled."""


class Lifespans:
    """The lifespans of one app, by event loop.

    :param app: the app.
    :ivar open_app: the app, while a lifespan is open and none ends. ``None``: :meth:`app_of` knows more.
    """

    __slots__ = ("_app", "_ending", "_is_expected", "_open", "open_app")

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open: WeakKeyDictionary[AbstractEventLoop, set[object]] = WeakKeyDictionary()
        self._ending: set[int] = set()
        self._is_expected = True
        self.open_app: ASGIApp | None = None

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app for a lifespan, and end its executions before the app hears of the last shutdown."""
        try:
            loop = get_running_loop()
        except RuntimeError:  # trio
            await run_lifespan(self._app, scope, receive, send, _LOGGER.name)
            return
        thread, lifespan, is_last = get_ident(), object(), False
        self._expect_no_more()
        lifespans = self._open.setdefault(loop, set())
        lifespans.add(lifespan)

        async def receiving() -> Message:
            nonlocal is_last
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                lifespans.discard(lifespan)
                if not lifespans:
                    is_last = True
                    self._ending.add(thread)
                    self.open_app = None
                    await self._end_executions()
            return message

        try:
            await run_lifespan(self._app, scope, receiving, send, _LOGGER.name)
        finally:
            lifespans.discard(lifespan)
            if is_last:
                self._ending.discard(thread)
            self._expect_no_more()

    def app_of(self, thread: int) -> ASGIApp:
        """The app for an execution that begins in a thread: while the app ends, one that responds with a 503.

        Logs once for the app that no lifespan has begun.
        """
        if thread in self._ending:
            return self._refuse
        if self._is_expected:
            self._expect_no_more()
            if current_task() is not None:
                _LOGGER.info(
                    "The server runs no lifespan of this app, or the app is mounted in another one. The key of a "
                    "request that runs when the server stops counts as running until its lease is over. Put "
                    "Idempotency around the outermost app, and let the server run the lifespan."
                )
        return self._app

    def _expect_no_more(self) -> None:
        """A lifespan has begun or ended, or none begins."""
        self._is_expected = False
        self.open_app = self._app
        if self._ending:  # asked last: another thread may have begun to end the app meanwhile
            self.open_app = None

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
