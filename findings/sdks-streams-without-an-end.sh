#!/usr/bin/env bash
# Three SDKs end a stream normally that has no end.
# Expected: a stream without its last event ("[DONE]", or "done": true) and without a finish reason raises. Both formats
# have an end so that a response that a proxy or a restarted server closes properly in the middle can be told from a
# complete one.
# Seen: groq, together and ollama return from the loop without an error, with half a text.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'groq==1.7.0' 'together==3.1.1' 'ollama==0.6.3'
"$work/venv/bin/python" - <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import groq
import ollama
import together

CHUNK = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
CHUNK["choices"] = [{"index": 0, "delta": {"role": "assistant", "content": "half"}, "finish_reason": None}]
LINE = {"model": "m", "created_at": "2026-01-01T00:00:00Z", "done": False}
LINE["message"] = {"role": "assistant", "content": "half"}
MESSAGES = [{"role": "user", "content": "?"}]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        lines = self.path.endswith("/api/chat")
        part = json.dumps(LINE) + "\n" if lines else f"data: {json.dumps(CHUNK)}\n\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson" if lines else "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(f"{len(part):x}\r\n{part}\r\n0\r\n\r\n".encode())

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
URL = f"http://127.0.0.1:{server.server_port}"
options = {"api_key": "k", "base_url": URL, "max_retries": 0}
call = {"model": "m", "messages": MESSAGES}


def by_groq():
    stream = groq.Groq(**options).chat.completions.create(**call, stream=True)
    return [chunk.choices[0].delta.content for chunk in stream]


def by_together():
    stream = together.Together(**options).chat.completions.create(**call, stream=True)
    return [chunk.choices[0].delta.content for chunk in stream]


def by_ollama():
    return [line.message.content for line in ollama.Client(host=URL).chat(**call, stream=True)]


CLIENTS = {"groq": by_groq, "together": by_together, "ollama": by_ollama}
seen = {name: read() for name, read in CLIENTS.items()}
print({f"{name} {version(name)}": texts for name, texts in seen.items()})
raise SystemExit(0 if all(texts == ["half"] for texts in seen.values()) else "changed: a stream has an end")
PYTHON
