"""A small ASGI app for the servers' own tests, importable by a child process."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["app"]

_state: dict[str, Any] = {"lifespan": "never begun"}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what it was asked; notes in ``lifespan`` whether it was started."""
    if scope["type"] == "lifespan":
        await receive()
        _state["lifespan"] = "begun"
        await send({"type": "lifespan.startup.complete"})
        await receive()
        _state["lifespan"] = "ended"
        await send({"type": "lifespan.shutdown.complete"})
        return
    message = await receive()
    body = {"path": scope["path"], "body": message["body"].decode(), "lifespan": _state["lifespan"]}
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
