#!/usr/bin/env bash
# Of two forms of an error event, together's SDK drops one, and writer's SDK reads the other as a part of the text.
# Expected: a model that dies in the middle of a stream raises, whether its error event has a name ("event: error") or
# is the data {"error": ...} alone, as gateways send both. groq's SDK, from the same generator, raises for both.
# Seen: together ends the loop normally at the event with a name, so that half a text is the whole one. writer returns
# the event without a name as a chunk whose choices are None: TypeError in the caller's loop, without the message.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'together==3.1.1' 'writer-sdk==3.0.0' 'groq==1.7.0'
"$work/venv/bin/python" - <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import groq
import together
import writerai

TOKEN = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
TOKEN["choices"] = [{"index": 0, "delta": {"role": "assistant", "content": "half"}, "finish_reason": None}]
ERROR = {"error": {"message": "the model died", "type": "server_error", "code": "overloaded", "param": None}}
MESSAGES = [{"role": "user", "content": "?"}]


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        name = "event: error\n" if self.path.startswith("/named") else ""
        self.wfile.write(f"data: {json.dumps(TOKEN)}\n\n{name}data: {json.dumps(ERROR)}\n\n".encode())

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
URL = f"http://127.0.0.1:{server.server_port}"
SDKS = {
    "groq": lambda url: groq.Groq(api_key="k", base_url=url, max_retries=0).chat.completions.create,
    "together": lambda url: together.Together(api_key="k", base_url=url, max_retries=0).chat.completions.create,
    "writer-sdk": lambda url: writerai.Writer(api_key="k", base_url=url, max_retries=0).chat.chat,
}


def end(create):
    """How the caller's loop ends."""
    try:
        for chunk in create(model="m", messages=MESSAGES, stream=True):
            chunk.choices[0]
    except Exception as error:
        return type(error).__name__
    return "complete"


seen = {name: [end(create(f"{URL}/{form}")) for form in ("named", "unnamed")] for name, create in SDKS.items()}
print("the end of a stream at an error event (with a name, without one):")
print({f"{name} {version(name)}": ends for name, ends in seen.items()})
expected = {
    "groq": ["APIError", "APIError"],
    "together": ["complete", "APIError"],
    "writer-sdk": ["APIStatusError", "TypeError"],
}
raise SystemExit(0 if seen == expected else "changed: other ends")
PYTHON
