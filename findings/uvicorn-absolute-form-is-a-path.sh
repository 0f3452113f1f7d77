#!/usr/bin/env bash
# Most ASGI servers take the URL in a request line for a path.
# Expected: a server accepts "GET http://shop.example/models HTTP/1.1", the form that clients send to a proxy, and gives
# the app the path /models (RFC 9112, section 3.2.2).
# Seen: over uvicorn, hypercorn and gunicorn, `path` is the whole URL: the route of a client whose proxy variable points
# at the server, or of a proxy that passes the line on, is a 404. granian gives the path.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'uvicorn==0.54.0' 'hypercorn==0.18.0' 'gunicorn==27.0.1' 'granian==2.8.9' 'httpx==0.28.1'
cat >"$work/shop.py" <<'PYTHON'
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})
PYTHON
cd "$work"
PYTHONPATH=$work venv/bin/python - <<'PYTHON'
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import httpx

COMMANDS = {
    "uvicorn": "uvicorn shop:app --port {port}",
    "hypercorn": "hypercorn shop:app --bind 127.0.0.1:{port}",
    "gunicorn": "gunicorn --worker-class asgi --bind 127.0.0.1:{port} shop:app",
    "granian": "granian --interface asgi --port {port} shop:app",
}


def path_of(command):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    name, *arguments = command.format(port=port).split()
    server = subprocess.Popen(
        [Path(sys.executable).parent / name, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            try:
                # Through a proxy, httpx sends the absolute form.
                with httpx.Client(proxy=f"http://127.0.0.1:{port}", timeout=20) as client:
                    return client.get("http://shop.example/models").text
            except httpx.ConnectError:
                time.sleep(0.1)
    finally:
        server.terminate()
        server.wait(30)


paths = {f"{name} {version(name)}": path_of(command) for name, command in COMMANDS.items()}
print(paths)
expected = ["http://shop.example/models"] * 3 + ["/models"]
raise SystemExit(0 if list(paths.values()) == expected else "changed: another path")
PYTHON
