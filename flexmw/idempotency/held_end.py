"""The end of a stream, held until the app returns.

A framework can end a body whose producer has failed as if the body were complete, and raise only then: Starlette's
``BaseHTTPMiddleware`` does, which is every ``@app.middleware("http")``. Half a stream would be sent, stored and
replayed as a whole one. An app that returns has ended its stream; an app that raises has broken the stream off.

An app may go on after its response, with background tasks. The end is sent after some turns of the event loop then, and
an exception that comes out of a background task says nothing about the stream.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from traceback import walk_tb
from typing import Final

import anyio

from flexmw.contract.exception_slots import chain_of, traceback_of
from flexmw.idempotency.side_tasks import SideTasks
from flexmw.idempotency.signals import Signal
from flexmw.kit.asgi import Message

__all__ = ["HeldEnd"]

_TURN_SECONDS: Final = 0.004
_TURNS: Final = 25
"""Turns of the event loop that an app has to raise after the end of its stream. A middleware takes some four turns, and
may stand in others. Turns and not only seconds, because a handler that blocks the event loop takes many seconds."""

_BACKGROUND: Final = frozenset({"starlette.background", "litestar.background_tasks"})
"""Modules that run functions after the response."""


class HeldEnd:
    """The last message of a stream.

    :param message: the message.
    :param complete: stores the response, and sends the message.
    :param side_tasks: where the end is sent if the app goes on after it.
    """

    __slots__ = ("_complete", "_has_begun", "_is_sent", "_message", "_side_tasks")

    def __init__(
        self, message: Message, complete: Callable[[Message, bytes], Awaitable[None]], side_tasks: SideTasks
    ) -> None:
        self._message, self._complete, self._side_tasks = message, complete, side_tasks
        self._has_begun = False
        self._is_sent = Signal()
        side_tasks.begin(self._wait)

    async def _wait(self) -> None:
        """Send the end after a while, if the app goes on for so long."""
        for _ in range(_TURNS):
            await anyio.sleep(_TURN_SECONDS)
        if not self._has_begun:
            self._side_tasks.start(self.send)

    async def send(self) -> None:
        """Send the end. Returns when it is sent, whoever has begun to send it."""
        if self._has_begun:
            await self._is_sent.wait()
            return
        self._has_begun = True
        complete = self._complete
        del self._complete  # a method of the execution, which has this object: a reference cycle
        try:
            await complete(self._message, b"")
        finally:
            self._is_sent.set()

    def _drop(self) -> None:
        """Send nothing. The write of the outcome may take longer than :meth:`_wait` waits."""
        self._has_begun = True
        del self._complete
        self._is_sent.set()

    async def conclude(self, error: BaseException | None) -> BaseException | None:
        """Send the end after an app that has returned, and drop it after an app that has broken its stream off.

        :param error: what the app has raised. ``None``: it has returned.
        :returns: ``error``, or the cancellation that has cut the write of the outcome off.
        """
        if self._has_begun or error is None or _is_from_background(error):
            try:
                await self.send()
            except BaseException as raised:
                return raised
        else:
            self._drop()
        return error


def _is_from_background(error: BaseException) -> bool:
    """Whether an exception, or one that it stems from, comes out of a function that runs after the response.

    Litestar raises an exception of its own in place of what a background task has raised.
    """
    return any(
        frame.f_globals.get("__name__") in _BACKGROUND
        for raised in chain_of(error)
        for frame, _ in walk_tb(traceback_of(raised))
    )
