#!/usr/bin/env bash
# httpx-retries replaces the 503 of an upload by StreamConsumed.
# Expected: a POST whose body comes from a generator cannot be sent again, so that its 503 is given back.
# Seen: the transport sends a second head, fails at the body that is used up, and raises StreamConsumed: the caller
# sees neither the status nor Retry-After, and the server has the beginning of a second request.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'httpx-retries==0.6.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import socket
import threading
from importlib.metadata import version

import httpx
from httpx_retries import Retry, RetryTransport

RESPONSE = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
requests = []


def serve(listener):
    """Read each request to the end of its chunked body, and refuse it."""
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(20)
            data = b""
            while not data.endswith(b"0\r\n\r\n") and (received := connection.recv(65536)):
                data += received
            requests.append(data.partition(b"\r\n\r\n"))
            if data.endswith(b"0\r\n\r\n"):
                connection.sendall(RESPONSE)


listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=serve, args=(listener,), daemon=True).start()


def upload():
    yield b"first half, "
    yield b"second half"


transport = RetryTransport(retry=Retry(total=2, backoff_factor=0.1, allowed_methods=["POST"]))
with httpx.Client(transport=transport) as client:
    try:
        seen = client.post(f"http://127.0.0.1:{listener.getsockname()[1]}/", content=upload()).status_code
    except httpx.StreamConsumed as error:
        seen = type(error).__name__
print(f"httpx-retries {version('httpx-retries')}: the caller of a refused upload gets {seen}")
raise SystemExit(0 if seen == "StreamConsumed" else "changed: the caller gets the response")
PYTHON
