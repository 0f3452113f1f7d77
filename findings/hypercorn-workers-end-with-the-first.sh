#!/usr/bin/env bash
# hypercorn with two workers kills the request of one as soon as the other one has ended.
# Expected: after SIGTERM, a request of two seconds is finished: --graceful-timeout is 20 seconds.
# Seen: the worker without a request ends at once, and hypercorn then terminates all the others, whose clients get a
# closed connection. With one worker the request is finished. The more workers, the surer each deployment cuts requests.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'hypercorn==0.18.0'
cat >"$work/slow.py" <<'PYTHON'
import asyncio


async def app(scope, receive, send):
    if scope["type"] == "http":
        if scope["path"] == "/slow":
            print("began", flush=True)
            await asyncio.sleep(2)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"done"})
PYTHON
cat >"$work/stop.py" <<'PYTHON'
import http.client
import signal
import socket
import subprocess
import sys
import time
from importlib.metadata import version


def connect(port):
    """A connection to a server that may not listen yet, and whose workers may not run yet."""
    for _ in range(600):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request("GET", "/")
            connection.getresponse().read()
        except OSError:
            time.sleep(0.05)
        else:
            return connection
    raise SystemExit("the server does not start")


def result(workers):
    """What a client gets whose request runs when the server is told to stop."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["--bind", f"127.0.0.1:{port}", "--workers", str(workers), "--graceful-timeout", "20"]
    command = [sys.executable, "-m", "hypercorn", *options, "slow:app"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        connection = connect(port)
        time.sleep(2)  # the other worker starts
        connection.request("GET", "/slow")
        server.stdout.readline()
        server.send_signal(signal.SIGTERM)
        try:
            return connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__
    finally:
        server.terminate()
        server.wait(20)


one, two = result(1), result(2)
print(f"hypercorn {version('hypercorn')}: one worker: {one}, two workers: {two}")
raise SystemExit(0 if (one, two) == ("done", "RemoteDisconnected") else "changed: a request of two seconds is finished")
PYTHON
cd "$work"
venv/bin/python stop.py
