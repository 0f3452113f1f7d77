"""The lifespan of an app, also of one that has none.

Django, the routers of Channels and many small apps raise or return where a server runs their lifespan. The server goes
on without one, so that a component around the app never learned of the end. Such an app has an empty lifespan here.

An app may also raise because it cannot start: Starlette makes its middleware when the lifespan is called. Its exception
is the server's: uvicorn with ``--lifespan on`` ends, hypercorn logs a warning.
"""

from __future__ import annotations

import re
from logging import DEBUG, getLogger
from typing import Final

from flexmw.kit.asgi import ASGIApp, Message, Receive, Scope, Send

__all__ = ["run_lifespan"]

_NAMES_SCOPE: Final = re.compile(r"\b(lifespan|scope)\b")
"""What the exception of an app says that does not know the scope, such as those of Django, Channels and asgiref."""

_KEYS: Final = ("path", "raw_path", "method", "headers", "query_string", "root_path", "scheme", "client", "server")
"""Keys that the scope of a request has, and that of a lifespan does not have."""


async def run_lifespan(app: ASGIApp, scope: Scope, receive: Receive, send: Send, logger: str) -> None:
    """Run the lifespan of an app. For an app that takes no part in it, answer the server.

    :param logger: the name of the logger that gets a line (INFO) about an app without a lifespan, and at level DEBUG
        what the app has raised.
    :raises Exception: what an app raises that has begun its lifespan, or that does not say that it has none.
    """
    has_begun = False

    async def receiving() -> Message:
        nonlocal has_begun
        has_begun = True
        return await receive()

    async def sending(message: Message) -> None:
        nonlocal has_begun
        has_begun = True
        await send(message)

    raised: Exception | None = None
    try:
        await app(scope, receiving, sending)
    except Exception as error:
        if has_begun or not _says_none(error):
            raise
        raised = error
    if has_begun:
        return
    log = getLogger(logger)
    log.info(
        "The app has no lifespan of its own (it %s): the server is answered in its place.",
        "returned" if raised is None else f"raised {type(raised).__name__}",
        exc_info=raised if log.isEnabledFor(DEBUG) else None,
    )
    del raised  # with its traceback, for as long as the server runs
    for stage in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{stage}.complete"})


def _says_none(error: Exception) -> bool:
    """Whether an app has raised because it has no lifespan: it asserts or implements another scope, names the scope, or
    looks for a key that the scope of a lifespan does not have."""
    if isinstance(error, (AssertionError, NotImplementedError)):
        return True
    try:
        text = str(error)
    except Exception:  # nobody can read what it says
        return False
    if isinstance(error, KeyError):
        return text.strip("'") in _KEYS
    return _NAMES_SCOPE.search(text) is not None
