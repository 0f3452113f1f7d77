#!/usr/bin/env bash
# httpx-retry keeps the connection of each response that it retries.
# Expected: a transport closes the 503 that it does not return, so that the retry can use its connection.
# Seen: the response is neither read nor closed. Over a pool of one connection the retry waits for the connection of
# its own first attempt: PoolTimeout instead of the 200. Over a larger pool each retry uses up one connection.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'httpx-retry==2025.4.23' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import httpx
from httpx_retry import RetryPolicy, RetryTransport

statuses = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(statuses.pop(0))
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()


def result(connections):
    statuses[:] = [503, 200]
    pool = httpx.HTTPTransport(limits=httpx.Limits(max_connections=connections))
    with httpx.Client(transport=RetryTransport(pool, RetryPolicy().with_max_retries(3)), timeout=3) as client:
        try:
            return client.get(f"http://127.0.0.1:{server.server_port}").status_code
        except httpx.PoolTimeout as error:
            return type(error).__name__


one, two = result(1), result(2)
print(f"httpx-retry {version('httpx-retry')}: over one connection: {one}; over two: {two}")
raise SystemExit(0 if (one, two) == ("PoolTimeout", 200) else "changed: a retried response is closed")
PYTHON
