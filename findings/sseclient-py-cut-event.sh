#!/usr/bin/env bash
# sseclient-py returns the beginning of an event as an event when the stream is cut.
# Expected: a block without the blank line that ends it is discarded at the end of the stream (HTML standard, section
# 9.2.6).
# Seen: a price of 1299 of which two digits have arrived is an event whose data is the number 12. httpx-sse discards it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'sseclient-py==1.9.0' 'httpx-sse==0.4.3' 'httpx==0.28.1' 'urllib3==2.6.3'
"$work/venv/bin/python" - <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import httpx
import httpx_sse
import sseclient
import urllib3


class Handler(BaseHTTPRequestHandler):
    """A response that ends with its connection, in the middle of its second event."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(b"event: price\ndata: 450\n\nevent: price\ndata: 12")

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
response = urllib3.PoolManager(timeout=20).request("GET", url, preload_content=False)
seen = [json.loads(event.data) for event in sseclient.SSEClient(response.stream(1024)).events()]
with httpx.Client(timeout=20) as client, httpx_sse.connect_sse(client, "GET", url) as source:
    other = [json.loads(event.data) for event in source.iter_sse()]
print(f"sseclient-py {version('sseclient-py')}: {seen}; httpx-sse {version('httpx-sse')}: {other}")
raise SystemExit(0 if seen == [450, 12] and other == [450] else "changed: a cut event is discarded")
PYTHON
