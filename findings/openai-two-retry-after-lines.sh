#!/usr/bin/env bash
# openai's SDK reads two Retry-After lines as none.
# Expected: a response that passed two limiters carries Retry-After twice; the longer wait, or either, is obeyed.
# Seen: the two values are joined to "3, 3", which is not a number; the SDK falls back to its backoff of half a second.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'openai==3.57.0'
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


import openai

LINE = b"Retry-After: 3\r\n"


def first_gap(lines):
    head = b"HTTP/1.1 429 Too Many Requests\r\n" + LINE * lines
    response = head + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}"
    port, requests = serve(lambda connection: connection.sendall(response), 2)
    try:
        openai.OpenAI(api_key="k", base_url=f"http://127.0.0.1:{port}/v1", max_retries=1).models.list()
    except openai.RateLimitError:
        pass
    return requests[1] - requests[0]


one, two = first_gap(1), first_gap(2)
print(f"openai {openai.__version__}: retried after {one:.1f} s with one line, after {two:.1f} s with two")
raise SystemExit(0 if one >= 3 and two < 2 else 1)
PYTHON
