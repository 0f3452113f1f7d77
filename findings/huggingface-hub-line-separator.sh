#!/usr/bin/env bash
# A line separator inside a token breaks the streams of huggingface_hub and of ollama.
# Expected: events and JSON lines end at LF, CR or CRLF; U+2028, which JSON allows inside a string, is text of the
# model.
# Seen: both clients read lines as str.splitlines() does, which splits at U+2028 as well, so that half a line of JSON
# is parsed: JSONDecodeError in the middle of the stream. openai's SDK reads the same stream.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'huggingface_hub==2.4.0' 'ollama==0.6.3' 'openai==3.57.0'
"$work/venv/bin/python" - <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import huggingface_hub
import ollama
import openai

TEXT = "one\u2028two"
CHOICE = {"index": 0, "delta": {"role": "assistant", "content": TEXT}, "finish_reason": None}
CHUNK = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [CHOICE]}
EVENTS = f"data: {json.dumps(CHUNK, ensure_ascii=False)}\n\ndata: [DONE]\n\n".encode()
LINES = {"model": "m", "message": {"role": "assistant", "content": TEXT}, "done": True}
BODIES = {"/v1/chat/completions": EVENTS, "/api/chat": json.dumps(LINES, ensure_ascii=False).encode() + b"\n"}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = BODIES[self.path]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if b"[DONE]" in body else "application/x-ndjson")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url, messages = f"http://127.0.0.1:{server.server_port}", [{"role": "user", "content": "Hello."}]
by_openai = openai.OpenAI(api_key="none", base_url=url + "/v1", max_retries=0)
by_hub = huggingface_hub.InferenceClient(base_url=url + "/v1", api_key="none")
by_ollama = ollama.Client(host=url)
streams = {
    "openai": lambda: by_openai.chat.completions.create(model="m", messages=messages, stream=True),
    "huggingface_hub": lambda: by_hub.chat_completion(messages, model="m", stream=True),
    "ollama": lambda: by_ollama.chat("m", messages, stream=True),
}
seen = {}
for name, stream in streams.items():
    try:
        seen[name] = [part.message.content if name == "ollama" else part.choices[0].delta.content for part in stream()]
    except json.JSONDecodeError as error:
        seen[name] = type(error).__name__
print({f"{name} {version(name)}": result for name, result in seen.items()})
expected = {"openai": [TEXT], "huggingface_hub": "JSONDecodeError", "ollama": "JSONDecodeError"}
raise SystemExit(0 if seen == expected else "changed: the separator is read as text")
PYTHON
