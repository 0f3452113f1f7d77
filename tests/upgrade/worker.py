"""A worker of a deployment whose versions are mixed: ``python worker.py <redis URL>``, with either version on the path.

Its first line of output is the port and the path of the flexmw that it has imported.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import uvicorn

import flexmw


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Sends what no second execution could send: as JSON, or as an event stream that takes a moment."""
    while (await receive()).get("more_body"):
        pass
    is_stream = scope["path"] == "/stream"
    media_type = b"text/event-stream" if is_stream else b"application/json"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", media_type)]})
    for number in range(20 if is_stream else 1):
        part = b'data: {"id": "%s", "n": %d}\n\n' if is_stream else b'{"id": "%s", "n": %d}'
        body = part % (uuid4().hex.encode(), number)
        await send({"type": "http.response.body", "body": body, "more_body": is_stream})
        await asyncio.sleep(0.01)
    if is_stream:
        await send({"type": "http.response.body"})


async def only_posts(scope: Any, receive: Any, send: Any) -> None:
    await (limited if scope["path"] == "/limited" else protected)(scope, receive, send)


URL = sys.argv[1]
protected = flexmw.Idempotency(storage=URL, lease=5.0).asgi(app)
limited = flexmw.RateLimit("10/day", storage=URL).asgi(app)


def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        sys.stdout.write(f"{listening.getsockname()[1]} {Path(flexmw.__file__).parent}\n")
        sys.stdout.flush()
        uvicorn.Server(uvicorn.Config(only_posts, log_level="warning", lifespan="off")).run([listening])


if __name__ == "__main__":
    main()
