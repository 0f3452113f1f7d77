#!/usr/bin/env bash
# daphne calls an app when the whole body of the request has arrived.
# Expected: the app is called with the head of a request, so that a refusal (401, 413, 429) needs no upload, and a body
# can be read as it arrives.
# Seen: until the last byte the app is not called. Whoever sends a head that is to be refused gets no response before
# the upload is over, and `more_body` is never true of what has arrived in pieces. uvicorn calls the app at once.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'daphne==4.2.3' 'uvicorn==0.54.0'
cat >"$work/shop.py" <<'PYTHON'
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})
PYTHON
cd "$work"
PYTHONPATH=$work venv/bin/python - <<'PYTHON'
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

COMMANDS = {
    "daphne": "daphne --bind 127.0.0.1 --port {port} shop:app",
    "uvicorn": "uvicorn shop:app --port {port} --lifespan off",
}
HEAD = b"POST /upload HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 1000\r\n\r\n"


def connected(port):
    for _ in range(600):
        try:
            return socket.create_connection(("127.0.0.1", port))
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("the server has not started")


def refused(command):
    """When the 413 arrives: before the upload, in 3 seconds, or after it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    name, *arguments = command.format(port=port).split()
    server = subprocess.Popen(
        [Path(sys.executable).parent / name, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with connected(port) as connection:
            connection.settimeout(3)
            connection.sendall(HEAD)
            try:
                return "before the upload" if b" 413 " in connection.recv(4096) else "another response"
            except TimeoutError:
                connection.settimeout(30)
                connection.sendall(b"x" * 1000)
                return "after the upload" if b" 413 " in connection.recv(4096) else "another response"
    finally:
        server.terminate()
        server.wait(30)


seen = {f"{name} {version(name)}": refused(command) for name, command in COMMANDS.items()}
print(f"413: {seen}")
as_stated = list(seen.values()) == ["after the upload", "before the upload"]
raise SystemExit(0 if as_stated else "changed: the app is called with the head")
PYTHON
