#!/usr/bin/env bash
# granian gives an app the ports of client and server as texts.
# Expected: scope["server"] and scope["client"] are a host and an integer port (ASGI, HTTP connection scope).
# Seen: ("127.0.0.1", "8000"): a comparison with a number is false, and an attribute like server.port gets the type of
# text in telemetry. uvicorn gives integers.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'granian==2.8.9' 'uvicorn==0.54.0' 'h11==0.16.0' 'httpx==0.28.1'
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
        types = [type(scope[end][1]).__name__ for end in ("client", "server")]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": " ".join(types).encode()})
    elif scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
"""
COMMANDS = {"uvicorn": ["main:app", "--http", "h11"], "granian": ["main:app", "--interface", "asgi"]}
seen = {}
with TemporaryDirectory() as folder:
    Path(folder, "main.py").write_text(APP)
    for name, arguments in COMMANDS.items():
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [str(Path(sys.executable).with_name(name)), *arguments, "--port", str(port)]
        server = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with httpx.Client(transport=httpx.HTTPTransport(retries=8), timeout=20) as client:  # while it starts
                seen[name] = client.get(f"http://127.0.0.1:{port}/").text
        finally:
            server.terminate()
            server.wait(30)
print({f"{name} {version(name)}": types for name, types in seen.items()})
raise SystemExit(0 if seen == {"uvicorn": "int int", "granian": "str str"} else "changed: other types")
PYTHON
