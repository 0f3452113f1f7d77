#!/usr/bin/env bash
# uvicorn's --limit-concurrency counts idle connections: a pool of clients that do nothing has new callers refused.
# Expected: a limit on concurrency bounds the requests that are served at the same time.
# Seen: after three requests on three kept connections, one after the other, a limit of 4 refuses the next one although
# nothing runs. The refusal is plain text, made outside of the app, and names no Retry-After.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'uvicorn==0.54.0' 'h11==0.16.0'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import http.client
import threading
import time
from importlib.metadata import version

import uvicorn


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


config = uvicorn.Config(app, port=0, http="h11", lifespan="off", log_level="critical", limit_concurrency=4)
server = uvicorn.Server(config)
threading.Thread(target=asyncio.run, args=(server.serve(),), daemon=True).start()
for _ in range(200):
    if server.started:
        break
    time.sleep(0.1)
port = server.servers[0].sockets[0].getsockname()[1]

connections, responses = [], []
for _ in range(4):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/")
    response = connection.getresponse()
    responses.append((response.status, response.headers["retry-after"], response.read().decode()))
    connections.append(connection)  # read to its end, and kept open
server.should_exit = True
print(f"uvicorn {version('uvicorn')}: limit 4, four requests one after the other: {responses}")
expected = [(200, None, "ok")] * 3 + [(503, None, "Service Unavailable")]
raise SystemExit(0 if responses == expected else "changed: the fourth request is not refused in plain text")
PYTHON
