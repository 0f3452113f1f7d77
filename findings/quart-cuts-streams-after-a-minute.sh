#!/usr/bin/env bash
# Quart cuts a response that takes longer than a minute, and says nothing.
# Expected: a timeout of the response ends a stream that stands still, or is logged when it ends one that does not.
# Seen: RESPONSE_TIMEOUT, 60 seconds by default, is the time of the whole body. A stream that sends an event every
# half second is cut in the middle, and no logger of Quart's has a line about it. `response.timeout = None` prevents it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'quart==0.22.0' 'uvicorn==0.54.0' 'h11==0.16.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import logging
import socket
import threading
from importlib.metadata import version

import httpx
import quart
import uvicorn

lines = []
handler = logging.Handler()
handler.emit = lambda record: lines.append((record.name, record.getMessage()))
logging.getLogger().addHandler(handler)
logging.getLogger().setLevel(logging.INFO)
app = quart.Quart("shop")
by_default, app.config["RESPONSE_TIMEOUT"] = app.config["RESPONSE_TIMEOUT"], 3


@app.get("/")
async def stream():
    async def events():
        for number in range(40):
            yield f"data: {number}\n\n"
            await asyncio.sleep(0.5)

    return events(), {"Content-Type": "text/event-stream"}


listener = socket.create_server(("127.0.0.1", 0))
server = uvicorn.Server(uvicorn.Config(app, http="h11", log_config=None))
threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True).start()
received = b""
try:
    with httpx.stream("GET", f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=20) as response:
        for part in response.iter_raw():
            received += part
    end = "complete"
except httpx.RemoteProtocolError as error:
    end = type(error).__name__
of_quart = [line for line in lines if line[0].startswith(("quart", "shop"))]
events = received.count(b"\n\n")
print(f"quart {version('quart')}: {by_default} s by default; with 3 s: {events} of 40 events, {end}; log: {of_quart}")
as_stated = by_default == 60 and 0 < events < 40 and end == "RemoteProtocolError" and not of_quart
raise SystemExit(0 if as_stated else "changed: a stream is not cut")
PYTHON
