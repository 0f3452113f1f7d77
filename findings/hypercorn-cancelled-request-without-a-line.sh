#!/usr/bin/env bash
# hypercorn says nothing of a request that fails because something that it awaits is cancelled.
# Expected: an app that raises asyncio.CancelledError while its client waits has failed: a 500, and a traceback in the
# log, as after any other exception.
# Seen: a 500 without a body and not a line in the log of hypercorn, also with --error-logfile. Another exception is
# logged. uvicorn and granian log the traceback of both.
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
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
    elif scope["path"] == "/error":
        raise ValueError("no such order")
    else:
        query = asyncio.ensure_future(asyncio.sleep(60))  # such as a query that several requests share
        asyncio.get_running_loop().call_later(0.1, query.cancel)
        await query
"""
COMMANDS = {
    "uvicorn": ["main:app", "--http", "h11", "--port", "{port}"],
    "hypercorn": ["main:app", "--error-logfile", "-", "--bind", "127.0.0.1:{port}"],
    "granian": ["main:app", "--interface", "asgi", "--port", "{port}"],
}
seen = {}
with TemporaryDirectory() as folder:
    Path(folder, "main.py").write_text(APP)
    for name, arguments in COMMANDS.items():
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [str(Path(sys.executable).with_name(name)), *(each.format(port=port) for each in arguments)]
        with open(Path(folder, "log"), "w+") as log:
            server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
            try:
                with httpx.Client(transport=httpx.HTTPTransport(retries=8), timeout=20) as client:  # while it starts
                    responses = [client.get(f"http://127.0.0.1:{port}/{path}") for path in ("error", "cancelled")]
            finally:
                server.terminate()
                server.wait(30)
            log.seek(0)
            lines = log.read()
        statuses = [response.status_code for response in responses]
        seen[name] = (statuses, [error in lines for error in ("ValueError", "CancelledError")])
print({f"{name} {version(name)}": result for name, result in seen.items()}, "(statuses, errors in the log)")
both = ([500, 500], [True, True])
expected = {"uvicorn": both, "hypercorn": ([500, 500], [True, False]), "granian": both}
raise SystemExit(0 if seen == expected else "changed: another line in the log")
PYTHON
