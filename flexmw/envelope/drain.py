"""Take what is left of a request before a crash is answered, so that the answer arrives.

A server closes the connection of an app that has raised, and a close over bytes that nobody has read is a reset, which
may overtake the answer on its way (RFC 9112 section 9.6).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import anyio

from flexmw.kit.asgi import Receive, Scope

__all__ = ["read_rest"]

MOST: Final = 64 * 1024
"""Bytes that are waited for: a longer upload is not worth its traffic."""

LONGEST: Final = 0.5
"""Seconds: a client that sends more slowly takes its chance."""


async def read_rest(scope: Scope, receive: Receive) -> None:
    """Read a small body to its end. What goes wrong meanwhile is not the news here.

    Nor is a disconnect: where a ``receive`` of the host's was cancelled, a server may have lost the body, and says so.
    """
    left = _announced(scope)
    if not left:
        return
    with suppress(Exception), anyio.move_on_after(LONGEST):
        while left > 0:
            message = await receive()
            left -= len(message.get("body", b""))
            if not message.get("more_body", False):
                return


def _announced(scope: Scope) -> int:
    """The bytes to wait for; 0 where there is no body, too much of one, or a client that waits for leave to send it."""
    if not scope.get("http_version", "1.1").startswith("1"):
        return 0
    headers = {name.lower(): value for name, value in scope.get("headers", ())}
    if b"expect" in headers:
        return 0
    if b"transfer-encoding" in headers:
        return MOST
    length = headers.get(b"content-length", b"")
    return int(length) if length.isdigit() and int(length) <= MOST else 0
