#!/usr/bin/env bash
# FastAPI's event streams send an HTTPException that is raised before the first event as a 200 that breaks off.
# Expected: a route that raises HTTPException(429) before it yields anything responds with 429 and its Retry-After.
# Seen: the head with 200 leaves before the generator runs: the client reads a stream without events that is cut, and
# neither the status nor the wait reaches it. A dependency of the route that raises the same exception gets its 429.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'fastapi==0.165.0' 'uvicorn==0.54.0' 'h11==0.16.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import threading
import time
from importlib.metadata import version
from typing import Annotated

import httpx
import uvicorn
from fastapi import Depends, FastAPI, HTTPException
from fastapi.sse import EventSourceResponse

app = FastAPI()


def refuse():
    raise HTTPException(429, "Slow down.", {"Retry-After": "3"})


@app.get("/generator", response_class=EventSourceResponse)
async def generator():
    refuse()
    yield {"event": 1}


@app.get("/dependency", response_class=EventSourceResponse)
async def dependency(_: Annotated[None, Depends(refuse)]):
    yield {"event": 1}


server = uvicorn.Server(uvicorn.Config(app, port=0, http="h11", lifespan="off", log_level="critical"))
threading.Thread(target=asyncio.run, args=(server.serve(),), daemon=True).start()
for _ in range(200):
    if server.started:
        break
    time.sleep(0.1)
url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


def get(path):
    end = "whole"
    with httpx.stream("GET", url + path, timeout=20) as response:
        try:
            response.read()
        except httpx.RemoteProtocolError as error:
            end = type(error).__name__
    return response.status_code, response.headers.get("retry-after"), end


seen = {path: get(path) for path in ("/generator", "/dependency")}
server.should_exit = True
print(f"fastapi {version('fastapi')}: (status, Retry-After, end of the body) of a 429 that is raised: {seen}")
expected = {"/generator": (200, None, "RemoteProtocolError"), "/dependency": (429, "3", "whole")}
raise SystemExit(0 if seen == expected else "changed: other responses")
PYTHON
