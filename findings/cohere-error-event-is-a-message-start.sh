#!/usr/bin/env bash
# cohere's SDK reads an error event of a stream as the start of a message.
# Expected: an event that the SDK does not know, such as "event: error" with an error object in its data (what gateways
# send when a model fails in the middle), raises an error, or is left out as other unknown events are.
# Seen: the loop gets one more event of type message-start without a message, and ends normally.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'cohere==7.3.1'
"$work/venv/bin/python" - <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import cohere

EVENTS = [
    ("message-start", {"type": "message-start", "id": "1", "delta": {"message": {"role": "assistant"}}}),
    ("content-delta", {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "He"}}}}),
    ("error", {"error": {"message": "Overloaded.", "type": "server_error", "code": "service_unavailable"}}),
]
BODY = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in EVENTS).encode()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
sdk = cohere.ClientV2(api_key="none", base_url=f"http://127.0.0.1:{server.server_port}", max_retries=0)
try:
    seen = [event.type for event in sdk.chat_stream(model="m", messages=[{"role": "user", "content": "Hello."}])]
except Exception as error:  # whatever class a later version has for it
    seen = repr(error)
print(f"cohere {version('cohere')}: sent {[name for name, _ in EVENTS]}; read {seen}")
expected = ["message-start", "content-delta", "message-start"]
raise SystemExit(0 if seen == expected else "changed: the error is not read as a start")
PYTHON
