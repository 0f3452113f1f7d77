#!/usr/bin/env bash
# sseclient loses the rest of an event behind the border of a chunk.
# Expected: where a chunk of HTTP ends is nothing that a client sees (RFC 9112, section 7.1): a server or a proxy may send
# an event in two.
# Seen: the client reads below the decoder of chunks: the size of the second chunk and the rest of the text are lines of
# their own and are dropped: "hello world" arrives as "hello wor". The last chunk is an event without data.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'sseclient==0.0.27' 'requests==2.34.2' 'urllib3==2.8.0'
"$work/venv/bin/python" - <<'PYTHON'
import itertools
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import requests
from sseclient import SSEClient

CHUNKS = (b"data: hello wor", b"ld\n\n", b"data: whole\n\n", b"")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in CHUNKS))

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/"
by_requests = requests.get(url).text
seen = [event.data for event in itertools.islice(SSEClient(url), 3)]
print(f"sseclient {version('sseclient')}: requests reads {by_requests!r}, sseclient {seen}")
raise SystemExit(0 if seen == ["hello wor", "whole", ""] else "changed: an event is read whole")
PYTHON
