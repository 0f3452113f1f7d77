#!/usr/bin/env bash
# anthropic's SDK ends a stream normally at an error event that has no name.
# Expected: an error event ends the stream with an exception, as it does with "event: error" and as openai's SDK does.
# Seen: without the line "event: error" the loop ends as if the message were complete; with it APIStatusError is raised.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'anthropic==2.14.0'
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


import anthropic

DATA = b'data: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'


def outcome(event):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    port, _ = serve(lambda connection: connection.sendall(head + event), 1)
    sdk = anthropic.Anthropic(api_key="k", base_url=f"http://127.0.0.1:{port}", max_retries=0)
    messages = [{"role": "user", "content": "hello"}]
    try:
        for _ in sdk.messages.create(model="m", max_tokens=9, messages=messages, stream=True):
            pass
    except anthropic.APIError as error:
        return type(error).__name__
    return "ended normally"


unnamed, named = outcome(DATA), outcome(b"event: error\n" + DATA)
print(f"anthropic {anthropic.__version__}: without a name: {unnamed}; with 'event: error': {named}")
raise SystemExit(0 if unnamed == "ended normally" and named != "ended normally" else 1)
PYTHON
