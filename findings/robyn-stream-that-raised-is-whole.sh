#!/usr/bin/env bash
# A stream of robyn whose generator raised ends as a whole one, and its media type is not sent.
# Expected: the body breaks off, so that the client's library raises (RFC 9112, section 8), as behind uvicorn; and a
# StreamingResponse has the Content-Type of its `media_type`.
# Seen: the last chunk is sent after the half that there was: a 200, complete for each client, with a line in the log of
# the server. `media_type="application/x-ndjson"` has no effect, there is no Content-Type; "text/event-stream" is sent.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'robyn==0.88.0' 'httpx==0.28.1'
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import os
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import httpx

Path("shop.py").write_text(
    r"""
import os
from robyn import Robyn, StreamingResponse

app = Robyn(__file__)

@app.post("/:kind")
async def chat(request):
    async def tokens():
        yield "half of "
        raise ConnectionError("the upstream has broken off")

    return StreamingResponse(tokens(), media_type=f"application/{request.path_params['kind']}")

@app.post("/text/event-stream")
async def events(request):
    return StreamingResponse(iter(["data: 1\n\n"]), media_type="text/event-stream")

app.start(host="127.0.0.1", port=int(os.environ["PORT"]))
"""
)
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
seen, quiet = {}, subprocess.DEVNULL
environment = {**os.environ, "PORT": str(port)}
with subprocess.Popen([sys.executable, "shop.py"], stdout=quiet, stderr=quiet, env=environment) as server:
    try:
        for _ in range(400):
            try:
                for path in ("x-ndjson", "text/event-stream"):
                    response = httpx.post(f"http://127.0.0.1:{port}/{path}", timeout=10)
                    seen[path] = response.status_code, response.headers.get("content-type"), response.text
                break
            except httpx.ConnectError:
                time.sleep(0.05)
            except httpx.HTTPError as error:
                seen[path] = type(error).__name__
                break
    finally:
        server.kill()
print(f"robyn {version('robyn')}: {seen}")
as_stated = seen["x-ndjson"] == (200, None, "half of ") and seen["text/event-stream"][1] == "text/event-stream"
raise SystemExit(0 if as_stated else "changed: a stream that raised breaks off")
PYTHON
