#!/usr/bin/env bash
# zapros takes a connection that closes without a response for a request that was not sent, and repeats a POST.
# Expected: its default policy repeats no POST that may have been executed: a 503 and a timeout of a POST come back after
# one request.
# Seen: when the server reads the order and closes the connection, as one that is stopped does, the error is
# ConnectionError, which the policy counts among those before the transmission: one order is sent four times.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'zapros==0.23.0'
"$work/venv/bin/python" - <<'PYTHON'
import socket
import threading
import time
from importlib.metadata import version

import zapros

ORDER = b'{"item":"table"}'
received = []


def answer(connection, behaviour):
    with connection:
        read = b""
        while ORDER not in read:
            read += connection.recv(65536)
        received.append(behaviour)
        if behaviour == "timeout":
            time.sleep(1)
        elif behaviour == "503":
            connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def serve(listener, behaviour):
    while True:
        threading.Thread(target=answer, args=(listener.accept()[0], behaviour), daemon=True).start()


def post(behaviour):
    """The result of one POST and how often the server has received it."""
    received.clear()
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=(listener, behaviour), daemon=True).start()
    handler = zapros.RetryMiddleware(zapros.StdNetworkHandler(read_timeout=0.3), backoff_factor=0.01)
    with zapros.Client(handler=handler) as client:
        try:
            response = client.request("POST", f"http://127.0.0.1:{listener.getsockname()[1]}/orders", body=ORDER)
            return response.status, len(received)
        except Exception as error:
            return type(error).__name__, len(received)


seen = {behaviour: post(behaviour) for behaviour in ("503", "timeout", "closes")}
print(f"zapros {version('zapros')}: (result, times received): {seen}")
as_stated = [count for _, count in seen.values()] == [1, 1, 4] and seen["closes"][0] == "ConnectionError"
raise SystemExit(0 if as_stated else "changed: a POST is sent once")
PYTHON
