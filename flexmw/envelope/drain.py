"""Drain: read the rest of a request's body before the response to a crash is sent, so that the response arrives.

A server closes the connection of an app that has raised. If the connection has unread bytes, the operating system sends
a reset, and the client may lose the response (RFC 9112 section 9.6).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import anyio

from flexmw.kit.asgi import Receive, Scope

__all__ = ["MAX_BYTES", "MAX_SECONDS", "read_rest"]

MAX_BYTES: Final = 64 * 1024
"""Longest body that is read. Reading a longer upload would cost more traffic than the response is worth."""

MAX_SECONDS: Final = 0.5
"""Longest time to read. A client that sends more slowly may lose the response."""


async def read_rest(scope: Scope, receive: Receive) -> None:
    """Read a small body to its end.

    Errors while reading are ignored. So are disconnects, which some servers report after a cancelled ``receive()``.
    """
    remaining = _expected_bytes(scope)
    if not remaining:
        return
    with suppress(Exception), anyio.move_on_after(MAX_SECONDS):
        while remaining > 0:
            message = await receive()
            remaining -= len(message.get("body", b""))
            if not message.get("more_body", False):
                return


def _expected_bytes(scope: Scope) -> int:
    """Return how many bytes to read; 0 for a request without a body, with a body that is too long, or with
    ``Expect``."""
    if not scope.get("http_version", "1.1").startswith("1"):
        return 0
    headers = {name.lower(): value for name, value in scope.get("headers", ())}
    if b"expect" in headers:
        return 0
    if b"transfer-encoding" in headers:
        return MAX_BYTES
    length = headers.get(b"content-length", b"")
    return int(length) if length.isdigit() and int(length) <= MAX_BYTES else 0
