#!/usr/bin/env bash
# uvicorn closes the connection after the 500 of a framework, and the response does not say so.
# Expected: a server that closes a connection after a response sends `Connection: close` with it (RFC 9112 section 9.6),
# so that the client sends its next request over another one.
# Seen: Starlette responds to a crash and raises the exception again, for the log of the server. uvicorn closes the
# connection for it, after a whole response without `Connection: close`. The next POST of the client is sent over the
# closing connection and is lost: ReadError, of which nobody knows whether it was executed. hypercorn and granian keep
# the connection.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'uvicorn==0.54.0' 'h11==0.16.0' 'hypercorn==0.18.0' 'granian==2.8.9' \
  'starlette==1.10.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

APP = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def crash(request):
    raise ValueError("no such order")

async def orders(request):
    return PlainTextResponse("ok")

app = Starlette(routes=[Route("/crash", crash), Route("/orders", orders, methods=["POST"])])
"""
COMMANDS = {
    "uvicorn": ["main:app", "--http", "h11", "--port", "{port}"],
    "hypercorn": ["main:app", "--bind", "127.0.0.1:{port}"],
    "granian": ["main:app", "--interface", "asgi", "--port", "{port}"],
}


def ends(port):
    """Whether the 500 of one connection says that the connection ends, and whether it ends within two seconds."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(2)
        connection.sendall(b"GET /crash HTTP/1.1\r\nHost: app\r\n\r\n")
        data, is_closed = b"", False
        try:
            while part := connection.recv(65536):
                data += part
            is_closed = True
        except TimeoutError:
            pass
    assert data.startswith(b"HTTP/1.1 500")
    assert data.endswith(b"Internal Server Error")
    return b"connection: close" in data.lower(), is_closed


def lost(port):
    """How many of fifty POSTs are lost that follow a 500."""
    count = 0
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        for _ in range(50):
            try:
                client.get("/crash")
                client.post("/orders")
            except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
                count += 1
    return count


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
                client.post(f"http://127.0.0.1:{port}/orders")
            seen[name] = (*ends(port), lost(port))
        finally:
            server.terminate()
            server.wait(30)
print({f"{name} {version(name)}": each for name, each in seen.items()}, "(says close, closes, POSTs lost of 50)")
expected = {"uvicorn": (False, True), "hypercorn": (False, False), "granian": (False, False)}
kept = not any(seen[name][2] for name in ("hypercorn", "granian"))
as_stated = kept and {name: each[:2] for name, each in seen.items()} == expected
raise SystemExit(0 if as_stated else "changed: uvicorn keeps the connection, or says that it closes it")
PYTHON
