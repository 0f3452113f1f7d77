#!/usr/bin/env bash
# mistralai's and cohere's SDKs compare a Retry-After that is a date with the machine's own clock.
# Expected: the response has a Date, so that Retry-After minus Date is the wait, whatever the clocks of both sides say.
# Seen: where the server's clock is five minutes behind, a wait of 60 seconds is taken for none: a retry after the
# backoff.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'mistralai==3.7.0' 'cohere==7.3.1'
"$work/venv/bin/python" - <<'PYTHON'
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import cohere
from mistralai.client import Mistral
from mistralai.client.utils import BackoffStrategy, RetryConfig

BEHIND, WAIT = 300, 60  # seconds
requests = []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        requests.append(time.monotonic())
        if len(requests) == 1:
            self.send_response(429)
            self.send_header("Retry-After", formatdate(time.time() - BEHIND + WAIT, usegmt=True))
        else:
            self.send_response(400)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def date_time_string(self, timestamp=None):
        return formatdate(time.time() - BEHIND, usegmt=True)  # the server's Date

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url, messages = f"http://127.0.0.1:{server.server_port}", [{"role": "user", "content": "Hello."}]
retries = RetryConfig("backoff", BackoffStrategy(500, 1000, 1.5, 30000), retry_connection_errors=False)
calls = {
    "mistralai": Mistral(api_key="none", server_url=url, retry_config=retries).chat.complete,
    "cohere": cohere.ClientV2(api_key="none", base_url=url, max_retries=1).chat,
}
seen = {}
for name, call in calls.items():
    requests.clear()
    try:
        call(model="m", messages=messages)
    except Exception as error:  # each SDK has its own
        assert "400" in repr(vars(error)) or getattr(error, "status_code", None) == 400, error
    seen[f"{name} {version(name)}"] = round(requests[1] - requests[0], 1)
print(f"Retry-After minus Date: {WAIT} s; retried after (seconds): {seen}")
raise SystemExit(0 if max(seen.values()) < 20 else "changed: the Date of the response counts")
PYTHON
