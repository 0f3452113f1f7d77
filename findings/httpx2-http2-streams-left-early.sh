#!/usr/bin/env bash
# Over HTTP/2, each stream that an httpx2 client leaves early uses up one of the connection's streams for good.
# Expected: leaving "with client.stream(...)" before the end resets that stream, so that its place is free again.
# Seen: after a hundred of them (what hypercorn allows) every further call of the client fails with LocalProtocolError,
# also when the server has long ended all streams.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'httpx2==2.16.2' 'h2==4.4.1' 'hypercorn==0.18.0'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import socket
from importlib.metadata import version

import httpx2
from hypercorn.asyncio import serve
from hypercorn.config import Config


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
    await asyncio.sleep(3)
    await send({"type": "http.response.body", "body": b"data: 2\n\n"})


async def main():
    config, stop = Config(), asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config.bind, config.loglevel = [f"127.0.0.1:{port}"], "CRITICAL"
    server = asyncio.create_task(serve(app, config, shutdown_trigger=stop.wait))
    transport = httpx2.AsyncHTTPTransport(http1=False, http2=True, retries=6)  # while it starts
    left, later = 0, None
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", transport=transport) as client:
        try:
            for left in range(130):
                async with client.stream("GET", "/") as response:
                    async for _ in response.aiter_bytes():
                        break
        except httpx2.LocalProtocolError:
            await asyncio.sleep(4)  # all streams have ended by now
            try:
                later = (await client.get("/")).status_code
            except httpx2.LocalProtocolError as error:
                later = str(error)
    stop.set()
    await server
    return left, later


left, later = asyncio.run(main())
print(f"httpx2 {version('httpx2')}: refused after {left} streams; a call four seconds later: {later}")
raise SystemExit(0 if left == 100 and "Max outbound streams" in str(later) else "changed: the client goes on")
PYTHON
