#!/usr/bin/env bash
# tremolo turns a status that Python has no name for into a 500.
# Expected: an app's 529 (what Anthropic's API sends when it is overloaded) with Retry-After reaches the client as 529.
# Seen: a 500 with the text "529 is not a valid HTTPStatus": status, Retry-After and body are lost.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'tremolo==0.5.3'
"$work/venv/bin/python" - <<'PYTHON'
import http.client
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

APP = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        headers = [(b"content-type", b"application/json"), (b"retry-after", b"3"), (b"content-length", b"2")]
        await send({"type": "http.response.start", "status": int(scope["path"][1:]), "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})
    elif scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
"""


def get(port, path):
    for _ in range(200):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request("GET", path)
        except ConnectionRefusedError:  # not started yet
            time.sleep(0.1)
            continue
        response = connection.getresponse()
        return response.status, response.headers["retry-after"], response.read()
    raise SystemExit("the server did not start")


with TemporaryDirectory() as folder:
    Path(folder, "main.py").write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tremolo", "--host", "127.0.0.1", "--port", str(port), "main:app"]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        known, unknown = get(port, "/503"), get(port, "/529")
    finally:
        server.terminate()
        server.wait(20)
print(f"tremolo {version('tremolo')}: 503: {known}; 529: {unknown}")
raise SystemExit(0 if known[0] == 503 and unknown[:2] == (500, None) else "changed: 529 is not a 500 any more")
PYTHON
