#!/usr/bin/env bash
# hypercorn asks for an upload before the app has decided whether it wants it.
# Expected: a client that asks first (Expect: 100-continue) gets 413, 401 or 429 at once, or "100 Continue" when the app
# reads the body (RFC 9110, section 10.1.1).
# Seen: the 100 is sent when the head arrives, so that an app that refuses without reading has the upload sent to it
# all the same, and the connection is closed under it after the refusal. uvicorn sends the 413.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'hypercorn==0.18.0' 'uvicorn==0.54.0' 'h11==0.16.0'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import socket
from importlib.metadata import version

import uvicorn
from hypercorn.asyncio import serve
from hypercorn.config import Config

HEAD = b"POST /files HTTP/1.1\r\nHost: shop.example\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n"


async def refuse(scope, receive, send):
    """Refuse each upload without a call of ``receive``."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})


async def on_hypercorn(listener, stop):
    config = Config()
    config.bind, config.errorlog = [f"fd://{listener.detach()}"], None
    await serve(refuse, config, shutdown_trigger=stop.wait)


async def on_uvicorn(listener, stop):
    server = uvicorn.Server(uvicorn.Config(refuse, log_config=None, lifespan="off"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    await stop.wait()
    server.should_exit = True
    await task


async def first_status(run):
    listener, stop = socket.create_server(("127.0.0.1", 0)), asyncio.Event()
    address = listener.getsockname()
    server = asyncio.create_task(run(listener, stop))
    reader, writer = await asyncio.open_connection(*address)
    writer.write(HEAD)
    line = await asyncio.wait_for(reader.readline(), 20)
    writer.close()
    stop.set()
    await server
    return int(line.split()[1])


hypercorn, other = asyncio.run(first_status(on_hypercorn)), asyncio.run(first_status(on_uvicorn))
print(f"first response: hypercorn {version('hypercorn')}: {hypercorn}, uvicorn {version('uvicorn')}: {other}")
raise SystemExit(0 if (hypercorn, other) == (100, 413) else "changed: the app is asked first")
PYTHON
