#!/usr/bin/env bash
# requests-ratelimiter stops a session for its whole window after one 429, whatever Retry-After says.
# Expected: after a 429 with Retry-After: 1, the next request is sent a second later.
# Seen: the limiter fills its window, an hour with per_hour=1000, and Retry-After is not read: the next call sleeps for
# an hour, without a line in the log above INFO, or raises Timeout where max_delay is set. A server that has refused
# one request of a burst gets none for an hour, or with per_day for a day.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'requests-ratelimiter==0.10.0' 'pyrate-limiter==4.5.1' 'requests==2.34.2'
"$work/venv/bin/python" - <<'PYTHON'
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import requests
from requests_ratelimiter import LimiterSession

served = []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        served.append(200 if served else 429)
        self.send_response(served[-1])
        self.send_header("Retry-After", "1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/"
with LimiterSession(per_hour=1000, max_delay=3) as session:
    session.get(url, timeout=20)
    time.sleep(2)
    try:
        result = session.get(url, timeout=20).status_code
    except requests.exceptions.Timeout as error:
        result = str(error)
print(f"requests-ratelimiter {version('requests-ratelimiter')}: two seconds after Retry-After: 1, the second of 1000")
print(f"requests of the hour: {result}; sent: {served}")
as_stated = served == [429] and "max_delay" in str(result)
raise SystemExit(0 if as_stated else "changed: a wait is as long as the server says")
PYTHON
