#!/usr/bin/env bash
# Over HTTP/2, a response whose app fails in the middle never ends at hypercorn.
# Expected: the server resets the stream (RFC 9113 section 5.4.2), as it closes the connection over HTTP/1.1, so that the
# client learns at once that the response is not complete.
# Seen: hypercorn drops the stream without a frame. The client waits until its own timeout, also where the app returns
# without the last part of the body.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'httpx2==2.16.2' 'h2==4.4.1' 'hypercorn==0.18.0'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import logging
import socket
from importlib.metadata import version

import httpx2
from hypercorn.asyncio import serve
from hypercorn.config import Config

logging.disable(logging.CRITICAL)


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    if scope["path"] == "/raises":
        raise RuntimeError


async def seen(port, path, *, http2):
    transport = httpx2.AsyncHTTPTransport(http1=not http2, http2=http2, retries=6)  # while it starts
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", transport=transport, timeout=5) as client:
        try:
            return (await client.get(path)).text
        except httpx2.TransportError as error:
            return type(error).__name__


async def main():
    config, stop = Config(), asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config.bind, config.loglevel, config.graceful_timeout = [f"127.0.0.1:{port}"], "CRITICAL", 0
    server = asyncio.create_task(serve(app, config, shutdown_trigger=stop.wait))
    results = [await seen(port, path, http2=http2) for http2 in (False, True) for path in ("/raises", "/returns")]
    stop.set()
    await server
    return results


results = asyncio.run(main())
print(f"hypercorn {version('hypercorn')}, an app that raises and one that returns: HTTP/1.1 {results[:2]}, HTTP/2 {results[2:]}")
raise SystemExit(0 if results == ["RemoteProtocolError"] * 2 + ["ReadTimeout"] * 2 else "changed")
PYTHON
