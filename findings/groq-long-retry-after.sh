#!/usr/bin/env bash
# groq's SDK answers a Retry-After of more than a minute by a retry within a second.
# Expected: a 429 with Retry-After: 90 is retried no earlier than after 90 seconds, or not at all.
# Seen: three requests within three seconds: a wait above 60 seconds is ignored and the backoff used instead.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'groq==1.7.0'
"$work/venv/bin/python" - <<'PYTHON'
import time
import socket
import threading


def serve(respond, times):
    """Accept so many requests on loopback; ``respond(connection)`` sends what follows each."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(20)
    requests = []

    def run():
        for _ in range(times):
            try:
                connection, _address = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(20)
                data = b""
                while b"\r\n\r\n" not in data:
                    data += connection.recv(65536)
                head, _, body = data.partition(b"\r\n\r\n")
                lines = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                while len(body) < (int(lines[0].split(b":")[1]) if lines else 0):
                    body += connection.recv(65536)
                requests.append(time.monotonic())
                respond(connection)

    threading.Thread(target=run, daemon=True).start()
    return listener.getsockname()[1], requests


import groq

RESPONSE = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 90\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
port, requests = serve(lambda connection: connection.sendall(RESPONSE), 3)
try:
    groq.Groq(api_key="k", base_url=f"http://127.0.0.1:{port}").chat.completions.create(
        model="m", messages=[{"role": "user", "content": "hello"}]
    )
except groq.RateLimitError:
    pass
gaps = [later - sooner for sooner, later in zip(requests, requests[1:])]
print(f"groq {groq.__version__}: {len(requests)} requests, seconds between them: {[round(gap, 1) for gap in gaps]}")
raise SystemExit(0 if len(requests) == 3 and max(gaps) < 5 else 1)
PYTHON
