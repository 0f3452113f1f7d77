#!/usr/bin/env bash
# anthropic's SDK returns the beginning of a message as the final message when a stream ends before message_stop.
# Expected: a stream without message_stop (a proxy or a server that closed it properly in the middle) raises an error,
# as openai's SDK does for the Responses API.
# Seen: get_final_message() returns the text so far; only stop_reason, which is None, tells that it is not the whole.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'anthropic==2.14.0'
"$work/venv/bin/python" - <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anthropic

MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "content": [],
    "model": "m",
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
EVENTS = [
    {"type": "message_start", "message": MESSAGE},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "The answer is not"}},
]
BODY = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in EVENTS).encode()


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
sdk = anthropic.Anthropic(api_key="none", base_url=f"http://127.0.0.1:{server.server_port}", max_retries=0)
try:
    with sdk.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "Hello."}]) as stream:
        message = stream.get_final_message()
        seen = message.content[0].text, message.stop_reason
except (anthropic.APIError, RuntimeError, AssertionError) as error:
    seen = repr(error)
print(f"anthropic {anthropic.__version__}: get_final_message() of a stream without message_stop: {seen}")
raise SystemExit(0 if seen == ("The answer is not", None) else "changed: the missing end is noticed")
PYTHON
