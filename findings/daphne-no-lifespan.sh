#!/usr/bin/env bash
# daphne never opens the lifespan of an app.
# Expected: an app's startup code runs before the first request, as with uvicorn, hypercorn and granian; a server that
# does not do that says so.
# Seen: requests are served while the app has seen no "lifespan" scope: pools are not opened, background tasks not
# started.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'daphne==4.2.3' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

APP = """
scopes = []


async def app(scope, receive, send):
    scopes.append(scope["type"])
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": " ".join(scopes).encode()})
    elif scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
"""
with TemporaryDirectory() as folder:
    Path(folder, "main.py").write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("daphne")), "-b", "127.0.0.1", "-p", str(port), "main:app"]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        with httpx.Client(transport=httpx.HTTPTransport(retries=8), timeout=20) as client:  # while it starts
            scopes = client.get(f"http://127.0.0.1:{port}/").text
    finally:
        server.terminate()
        _, log = server.communicate(timeout=30)
print(f"daphne {version('daphne')}: scopes of the app: {scopes}; the log names lifespan: {'lifespan' in log}")
raise SystemExit(0 if scopes == "http" and "lifespan" not in log else "changed: the lifespan is opened, or named")
PYTHON
