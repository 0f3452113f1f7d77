"""Parts that the checks of a server side use: their type, a correct app, and one whole request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from flexmw.testing.visit import Visit, http_scope

__all__ = ["LATENCY", "PATIENCE", "Boom", "Check", "Headers", "Wrap", "fine", "visited"]

PATIENCE: Final = 10.0
"""Seconds that a check waits for an event before it reports a fault."""
LATENCY: Final = 0.02
"""Seconds that a component may add to a request on an idle event loop; the best of several measurements counts."""

Wrap = Callable[[ASGIApp], ASGIApp]
Headers = list[tuple[bytes, bytes]]
Check = Callable[[Wrap, Headers], Awaitable[list[str]]]


class Boom(Exception):
    """Raised by the app inside the component. The app does not catch it."""


async def visited(wrap: Wrap, app: ASGIApp, headers: Headers, method: str = "GET", body: Iterable[bytes] = ()) -> Visit:
    parts = list(body) or [b""]
    incoming = [
        {"type": "http.request", "body": part, "more_body": place < len(parts) - 1} for place, part in enumerate(parts)
    ]
    visit = Visit(http_scope(method, headers), incoming)
    await visit.run(wrap(app))
    return visit


async def fine(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"fine"})
