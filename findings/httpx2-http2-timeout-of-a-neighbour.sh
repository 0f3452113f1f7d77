#!/usr/bin/env bash
# Over HTTP/2, httpx2 ends a call with a long timeout when another call of the connection reaches its short one.
# Expected: a timeout belongs to its call: the one with 0.5 seconds fails, the one with 30 seconds gets its response.
# Seen: both raise ReadTimeout after half a second. The server has both requests, so that a POST with 30 seconds is
# lost and may have been executed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'httpx2==2.16.2' 'h2==4.4.1' 'hypercorn==0.18.0'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import socket
import time
from importlib.metadata import version

import httpx2
from hypercorn.asyncio import serve
from hypercorn.config import Config


async def app(scope, receive, send):
    await asyncio.sleep(2 if scope["path"] == "/slow" else 0)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


async def call(client, timeout):
    began = time.monotonic()
    try:
        result = (await client.get("/slow", timeout=timeout)).status_code
    except httpx2.TransportError as error:
        result = type(error).__name__
    return result, round(time.monotonic() - began, 1)


async def main():
    config, stop = Config(), asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config.bind, config.loglevel = [f"127.0.0.1:{port}"], "CRITICAL"
    server = asyncio.create_task(serve(app, config, shutdown_trigger=stop.wait))
    transport = httpx2.AsyncHTTPTransport(http1=False, http2=True, retries=6)  # while it starts
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", transport=transport) as client:
        await client.get("/")  # both calls then share its connection
        short, long = await asyncio.gather(call(client, 0.5), call(client, 30))
        alone = await call(client, 30)
    stop.set()
    await server
    return short, long, alone


short, long, alone = asyncio.run(main())
print(f"httpx2 {version('httpx2')}: timeout 0.5: {short}; 30 beside it: {long}; 30 alone: {alone}")
changed = "changed: the long call is not ended by the short one"
raise SystemExit(0 if long[0] == "ReadTimeout" and long[1] < 10 and alone[0] == 200 else changed)
PYTHON
