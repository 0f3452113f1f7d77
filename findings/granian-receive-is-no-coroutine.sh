#!/usr/bin/env bash
# granian's `receive()` cannot be made a task.
# Expected: an app that streams watches for the client's disconnect beside it: asyncio.create_task(receive()), which
# works on uvicorn and hypercorn, where receive is a coroutine function.
# Seen: TypeError, "a coroutine was expected": granian returns an awaitable object of its own. The specification says
# "awaitable", so that both are right; asyncio.ensure_future(receive()) works everywhere.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q \
  'granian==2.8.9' 'uvicorn==0.54.0' 'h11==0.16.0' 'hypercorn==0.18.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

APP = """
import asyncio

WAYS = {"/create_task": asyncio.create_task, "/ensure_future": asyncio.ensure_future}


async def app(scope, receive, send):
    if scope["type"] == "http":
        try:
            task = WAYS[scope["path"]](receive())
            result = (await task)["type"]
        except TypeError as error:
            result = str(error).split(",")[0]
        body = result.encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
    elif scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
"""
COMMANDS = {
    "granian": ["main:app", "--interface", "asgi", "--port", "{port}"],
    "uvicorn": ["main:app", "--http", "h11", "--port", "{port}"],
    "hypercorn": ["main:app", "--bind", "127.0.0.1:{port}"],
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
                ways = ("create_task", "ensure_future")
                seen[name] = [client.get(f"http://127.0.0.1:{port}/{way}").text for way in ways]
        finally:
            server.terminate()
            server.wait(30)
print({f"{name} {version(name)}": results for name, results in seen.items()})
expected = {name: ["http.request", "http.request"] for name in COMMANDS}
expected["granian"][0] = "a coroutine was expected"
raise SystemExit(0 if seen == expected else "changed: receive() can be made a task")
PYTHON
