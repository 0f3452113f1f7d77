#!/usr/bin/env bash
# Each endpoint of FastAPI that waits for a thread is a 500 on granian with tasks in Rust.
# Expected: `--task-impl rust`, which granian offers for CPython below 3.12, changes the speed and not the responses.
# Seen: an `async def` endpoint is a 200 with both, a `def` endpoint, which runs in a thread, is a 500 with tasks in
# Rust: "Future object is not initialized". So it is with each dependency that is a `def`, and with a file as response.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'granian==2.8.9' 'fastapi==0.165.0' 'starlette==1.10.0' 'httpx==0.28.1'
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import httpx

Path("shop.py").write_text(
    """
from fastapi import FastAPI
app = FastAPI()

@app.post("/async")
async def in_loop():
    return "ordered"

@app.post("/sync")
def in_thread():
    return "ordered"
"""
)


def statuses(*options):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--port", str(port), *options, "shop:app"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(400):
                try:
                    return [httpx.post(f"http://127.0.0.1:{port}/{name}").status_code for name in ("async", "sync")]
                except httpx.TransportError:
                    time.sleep(0.05)
        finally:
            server.terminate()


seen = {implementation: statuses("--task-impl", implementation) for implementation in ("asyncio", "rust")}
print(f"granian {version('granian')}, Python {sys.version.split()[0]}: statuses of an async and a sync endpoint: {seen}")
raise SystemExit(0 if seen == {"asyncio": [200, 200], "rust": [200, 500]} else "changed: both are 200")
PYTHON
