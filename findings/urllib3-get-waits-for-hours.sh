#!/usr/bin/env bash
# urllib3 sleeps for the Retry-After of a 503 by default, three times, whatever the timeout of the call is.
# Expected: a GET with timeout=1 that nobody has given a policy for retries returns its 503 within seconds.
# Seen: each 413, 429 or 503 with Retry-After is waited for, up to six hours each, and repeated, without a line in the
# log above DEBUG. A generated client over urllib3 stands still in a worker for an hour after "Retry-After: 1200". POST
# is not repeated, and `retries=False` turns it off.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'urllib3==2.8.0'
"$work/venv/bin/python" - <<'PYTHON'
import logging
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import urllib3
from urllib3.util import Retry

lines = []
handler = logging.Handler(logging.INFO)
handler.emit = lines.append
logging.getLogger().addHandler(handler)
logging.getLogger().setLevel(logging.INFO)
requests = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        requests.append(self.command)
        self.send_response(503)
        self.send_header("Retry-After", "3")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()


def seen(method):
    requests.clear()
    begin = time.monotonic()
    status = urllib3.request(method, f"http://127.0.0.1:{server.server_port}/", timeout=1).status
    return status, len(requests), round(time.monotonic() - begin)


get, post = seen("GET"), seen("POST")
longest = Retry.DEFAULT.retry_after_max / 3600
print(f"urllib3 {urllib3.__version__}: (status, requests, seconds) with Retry-After: 3: GET {get}, POST {post}")
print(f"log lines: {len(lines)}; the longest wait that it obeys: {longest} hours")
as_stated = get[:2] == (503, 4) and get[2] >= 9 and post[:2] == (503, 1) and not lines and longest == 6
raise SystemExit(0 if as_stated else "changed: a call without a policy is not repeated")
PYTHON
