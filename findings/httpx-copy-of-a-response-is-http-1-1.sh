#!/usr/bin/env bash
# The copy of a response of httpx says HTTP/1.1 and the standard phrase, whatever the server has said.
# Expected: copy.copy(response) has the values of the response.
# Seen: a copy, and a response that was pickled, such as for a cache, has empty extensions. http_version and
# reason_phrase are read from there, so that both return a default; what a transport has noted in the extensions, such
# as that a response comes from a cache, is gone. httpx2 does the same.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'httpx==0.28.1' 'httpx2==2.16.2'
"$work/venv/bin/python" - <<'PYTHON'
import copy
import pickle
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import httpx
import httpx2


class Handler(BaseHTTPRequestHandler):  # of HTTP/1.0
    def do_GET(self):
        self.send_response(503, "Try The Other Region")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()


def noting(module):
    """A transport that notes where a response comes from."""

    class Noting(module.HTTPTransport):
        def handle_request(self, request):
            response = super().handle_request(request)
            response.extensions["from_cache"] = True
            return response

    return Noting()


seen = {}
for module in (httpx, httpx2):
    with module.Client(transport=noting(module), timeout=20) as client:
        response = client.get(f"http://127.0.0.1:{server.server_port}/")
    copies = [response, copy.copy(response), pickle.loads(pickle.dumps(response))]
    seen[module.__name__] = [
        (each.http_version, each.reason_phrase, "from_cache" in each.extensions) for each in copies
    ]
print({f"{name} {version(name)}": each for name, each in seen.items()}, "(the response, a copy, pickled)")
lost = ("HTTP/1.1", "Service Unavailable", False)
expected = [("HTTP/1.0", "Try The Other Region", True), lost, lost]
raise SystemExit(0 if seen == {"httpx": expected, "httpx2": expected} else "changed: a copy keeps its extensions")
PYTHON
