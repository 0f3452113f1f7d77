"""Read the beginning of a request's body before the app runs, and give all of it to the app."""

from __future__ import annotations

from typing import Final

from flexmw.kit.asgi import Message, Receive, Scope

__all__ = ["MAX_REQUEST_BYTES", "read_body"]

MAX_REQUEST_BYTES: Final = 1024 * 1024
"""The most that is read of a body. The app gets what was read first, and then the rest as it arrives."""


async def read_body(scope: Scope, receive: Receive) -> tuple[bytes, bool, Receive]:
    """Read a body up to :data:`MAX_REQUEST_BYTES`.

    :return: what was read, whether it is the whole body, and the ``receive`` for the app.
    """
    if scope["type"] != "http":
        return b"", True, receive
    messages: list[Message] = []
    chunks: list[bytes] = []
    size, has_more = 0, True
    while has_more and size <= MAX_REQUEST_BYTES:
        message = await receive()
        messages.append(message)
        if message["type"] != "http.request":
            break
        chunk = message.get("body", b"")
        chunks.append(chunk)
        size += len(chunk)
        has_more = message.get("more_body", False)
    unread = iter(messages)

    async def receive_again() -> Message:
        for message in unread:
            return message
        return await receive()

    return b"".join(chunks), not has_more, receive_again
