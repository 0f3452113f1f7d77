#!/usr/bin/env bash
# idemkit cuts the event stream of each POST after its first event, with and without a key.
# Expected: a stream passes whole, or is refused where a key asks for a response that cannot be stored.
# Seen: the status is 200, one event of three arrives, and the connection breaks off: Starlette is told of a disconnect
# while the client is there, and ends the stream.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q \
  'idemkit[asgi]==1.0.2' 'starlette==1.10.0' 'uvicorn==0.54.0' 'h11==0.16.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import logging
import threading
import time
from importlib.metadata import version

import httpx
import uvicorn
from idemkit import HttpConfig, IdempotencyMiddleware, InMemoryBackend
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

logging.getLogger("idemkit").setLevel(logging.ERROR)  # it warns of the store in memory


async def order(request):
    async def events():
        for number in range(3):
            yield f"data: {number}\n\n"
            await asyncio.sleep(0.2)

    return StreamingResponse(events(), media_type="text/event-stream")


bare = Starlette(routes=[Route("/{path}", order, methods=["POST"])])
wrapped = IdempotencyMiddleware(bare, backend=InMemoryBackend(), config=HttpConfig(scope_mode="single_tenant"))


async def app(scope, receive, send):
    await (bare if scope["path"] == "/bare" else wrapped)(scope, receive, send)


server = uvicorn.Server(uvicorn.Config(app, port=0, http="h11", lifespan="off", log_level="critical"))
threading.Thread(target=asyncio.run, args=(server.serve(),), daemon=True).start()
for _ in range(200):
    if server.started:
        break
    time.sleep(0.1)
url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


def stream(path, headers):
    """The events that arrive, and how the stream ends."""
    body = b""
    try:
        with httpx.stream("POST", url + path, json={}, headers=headers, timeout=20) as response:
            for part in response.iter_bytes():
                body += part
        return body.count(b"data: "), "whole"
    except httpx.RemoteProtocolError as error:
        return body.count(b"data: "), type(error).__name__


key = {"Idempotency-Key": "order-1"}
seen = {"bare": stream("/bare", key), "wrapped": stream("/wrapped", key), "wrapped, no key": stream("/wrapped", {})}
server.should_exit = True
print(f"idemkit {version('idemkit')}: events of three, and the end: {seen}")
expected = {"bare": (3, "whole"), "wrapped": (1, "RemoteProtocolError"), "wrapped, no key": (1, "RemoteProtocolError")}
raise SystemExit(0 if seen == expected else "changed: other streams")
PYTHON
