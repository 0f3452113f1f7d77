#!/usr/bin/env bash
# uvicorn and hypercorn add a second Date to a response that has one.
# Expected: a response has one Date (RFC 9110 section 6.6.1); a gateway that passes an upstream's response on keeps its
# Date.
# Seen: two lines, the app's second with uvicorn and first with hypercorn. A client that reads one of them compares a
# Retry-After that is a date with the wrong clock. granian leaves the app's Date alone.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'uvicorn==0.54.0' 'h11==0.16.0' 'hypercorn==0.18.0' 'granian==2.8.9' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

APP = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        headers = [(b"date", b"Fri, 15 Jan 2027 08:00:00 GMT"), (b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})
    elif scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
"""
COMMANDS = {
    "uvicorn": ["main:app", "--http", "h11", "--port", "{port}"],
    "hypercorn": ["main:app", "--bind", "127.0.0.1:{port}"],
    "granian": ["main:app", "--interface", "asgi", "--port", "{port}"],
}
seen = {}
with TemporaryDirectory() as folder:
    Path(folder, "main.py").write_text(APP)
    for name, arguments in COMMANDS.items():
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [str(Path(sys.executable).with_name(name)), *(each.format(port=port) for each in arguments)]
        server = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with httpx.Client(transport=httpx.HTTPTransport(retries=8), timeout=20) as client:  # while it starts
                dates = client.get(f"http://127.0.0.1:{port}/").headers.get_list("date")
        finally:
            server.terminate()
            server.wait(30)
        seen[name] = ["of the app" if "2027" in date else "of the server" for date in dates]
print({f"{name} {version(name)}": dates for name, dates in seen.items()})
expected = {
    "uvicorn": ["of the server", "of the app"],
    "hypercorn": ["of the app", "of the server"],
    "granian": ["of the app"],
}
raise SystemExit(0 if seen == expected else "changed: other dates")
PYTHON
