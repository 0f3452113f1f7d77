#!/usr/bin/env bash
# Starlette's BaseHTTPMiddleware ends the body of an app that crashed in the middle of it.
# Expected: a body that breaks off is not ended, so that the server cuts the connection and the client sees an error.
# Seen: the middleware sends the last, empty part of the body, and raises then. Over uvicorn, the client of an app
# with any `@app.middleware("http")` reads half a download, or half an event stream, as a whole one.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'starlette==1.10.0' 'uvicorn==0.54.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import logging
import threading
import time

import httpx
import starlette
import uvicorn
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import StreamingResponse
from starlette.routing import Route

logging.disable(logging.CRITICAL)


async def half():
    yield b"first half"
    raise ConnectionError("the model died")


async def chat(request):
    return StreamingResponse(half(), media_type="text/plain")


async def passed_on(request, call_next):
    return await call_next(request)


def read(app):
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        return httpx.get(f"http://127.0.0.1:{port}/", timeout=20).text
    except httpx.RemoteProtocolError as error:
        return type(error).__name__
    finally:
        server.should_exit = True
        thread.join(20)


plain = Starlette(routes=[Route("/", chat)])
wrapped = BaseHTTPMiddleware(Starlette(routes=[Route("/", chat)]), dispatch=passed_on)
seen = read(plain), read(wrapped)
print(f"starlette {starlette.__version__}, uvicorn {uvicorn.__version__}: plain {seen[0]!r}, with middleware {seen[1]!r}")
raise SystemExit(0 if seen == ("RemoteProtocolError", "first half") else "changed: a cut body is cut")
PYTHON
