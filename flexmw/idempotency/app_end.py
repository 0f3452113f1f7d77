"""The end of an app: cancel the executions that its server has not waited for.

A server that stops waits for its requests, cancels what is left, and ends the lifespan of the app. A request with a key
goes on when it is cancelled, and uvicorn ends the process by a signal right after the lifespan. The ``finally`` blocks
of the app did not run, and the key counted as running until its lease was over. So the executions that are left at the
end of the lifespan are cancelled before the app shuts down what they use.

Under trio nothing is left: a server cannot end before the work that is shielded from its cancellation.
"""

from __future__ import annotations

import logging
from typing import Final

from flexmw.idempotency import running
from flexmw.kit.asgi import ASGIApp, Message, Receive
from flexmw.kit.background import drain
from flexmw.kit.clock import SYSTEM

__all__ = ["END_SECONDS", "ending_executions"]

_LOGGER: Final = logging.getLogger("flexmw.idempotency")

END_SECONDS: Final = 2.0
"""Seconds that the end of an app waits for the executions that are cancelled."""


def ending_executions(app: ASGIApp, receive: Receive) -> Receive:
    """``receive`` of a lifespan: ends the executions of the app before the app hears of the shutdown.

    :param app: the app that the executions run.
    """

    async def receiving() -> Message:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            await _end_executions(app)
        return message

    return receiving


async def _end_executions(app: ASGIApp) -> None:
    """Cancel the executions of an app in this event loop, and wait until their outcomes are written."""
    generations = running.cut_off(app)
    if not generations:
        return
    _LOGGER.warning(
        "The app ends while %d executions with idempotency keys run: they are cancelled, and a key without a response "
        "is unknown. Give the server more seconds to stop than the longest request takes.",
        len(generations),
    )
    await drain(lambda: running.left_of(generations), lambda _: None, seconds=END_SECONDS, clock=SYSTEM)
