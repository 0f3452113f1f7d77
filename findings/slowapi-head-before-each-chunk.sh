#!/usr/bin/env bash
# slowapi's ASGI middleware sends the head of a response again before each part of its body.
# Expected: one http.response.start, then as many http.response.body as the app sends (ASGI specification).
# Seen: a head before every part. A response of one part works, so that tests of JSON routes pass; uvicorn refuses the
# second head, and an event stream is cut after its first event.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q \
  'slowapi==0.1.10' 'limits==5.8.0' 'starlette==1.10.0' 'uvicorn==0.54.0' 'h11==0.16.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import socket
import threading
from importlib.metadata import version

import httpx
import uvicorn
from slowapi import Limiter
from slowapi.middleware import SlowAPIASGIMiddleware
from slowapi.util import get_remote_address
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

sent = []


async def stream(request):
    return StreamingResponse((f"data: {number}\n\n" for number in range(3)), media_type="text/event-stream")


def recorded(app):
    async def recorder(scope, receive, send):
        async def record(message):
            if scope["type"] == "http":
                sent.append(message["type"].removeprefix("http.response."))
            await send(message)

        await app(scope, receive, record)

    return recorder


app = Starlette(routes=[Route("/", stream)])
app.state.limiter = Limiter(key_func=get_remote_address, default_limits=["100/minute"])
app.add_middleware(SlowAPIASGIMiddleware)
app.add_middleware(recorded)
listener = socket.create_server(("127.0.0.1", 0))
server = uvicorn.Server(uvicorn.Config(app, http="h11", log_level="critical"))
threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True).start()
received = b""
try:
    with httpx.stream("GET", f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=20) as response:
        for part in response.iter_raw():
            received += part
    end = "complete"
except httpx.RemoteProtocolError as error:
    end = type(error).__name__
print(f"slowapi {version('slowapi')}: sent: {sent}; received: {received}, {end}")
as_stated = sent[:3] == ["start", "body", "start"] and (received, end) == (b"data: 0\n\n", "RemoteProtocolError")
raise SystemExit(0 if as_stated else "changed: a stream has one head")
PYTHON
