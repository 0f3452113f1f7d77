#!/usr/bin/env bash
# The client of Cerebras sends a request when it is constructed.
# Expected: a constructor opens nothing and waits for nothing, as those of the SDKs from the same generator.
# Seen: `Cerebras()` and `AsyncCerebras()` each send GET /v1/tcp_warming, the second from a client without the event
# loop, and wait for the response. An app that makes a client per call makes two requests of each call.
# `warm_tcp_connection=False` prevents it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'cerebras_cloud_sdk==1.91.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

from cerebras.cloud.sdk import AsyncCerebras, Cerebras

requests = []


class Provider(BaseHTTPRequestHandler):
    def do_GET(self):
        requests.append(f"{self.command} {self.path}")
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
threading.Thread(target=server.serve_forever, daemon=True).start()
options = {"api_key": "key", "base_url": f"http://127.0.0.1:{server.server_port}"}
for client in (Cerebras, AsyncCerebras):
    client(**options)
by_default, requests[:] = list(requests), []
for client in (Cerebras, AsyncCerebras):
    client(**options, warm_tcp_connection=False)
print(f"cerebras_cloud_sdk {version('cerebras_cloud_sdk')}: {by_default}, without warming {requests}")
as_stated = by_default == ["GET /v1/tcp_warming"] * 2 and not requests
raise SystemExit(0 if as_stated else "changed: a constructor sends nothing")
PYTHON
