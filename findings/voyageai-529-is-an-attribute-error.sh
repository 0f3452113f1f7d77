#!/usr/bin/env bash
# voyageai reads an error whose status is not in its table as a success.
# Expected: a 529 (overloaded) or a 520 of a proxy is a VoyageError, which callers catch, with the message of the body.
# Seen: only 400 to 499, 500, 502, 503 and 504 are errors. The JSON of any other one is taken for embeddings, and the
# caller gets AttributeError: data, without status, message and Retry-After.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'voyageai==0.5.0'
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import voyageai

logging.disable(logging.CRITICAL)
requests = []


class Handler(BaseHTTPRequestHandler):
    """``POST /503/embeddings`` is refused with 503."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        requests.append(self.path)
        body = b'{"detail": "Overloaded."}'
        self.send_response(int(self.path.split("/")[1]), "Overloaded")
        self.send_header("Content-Type", "application/json")
        self.send_header("Retry-After", "1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()


def error_at(status):
    requests.clear()
    url = f"http://127.0.0.1:{server.server_port}/{status}"
    try:
        voyageai.Client(api_key="none", base_url=url, timeout=20, max_retries=1).embed(["text"], model="voyage-3")
    except Exception as error:
        return type(error).__name__, isinstance(error, voyageai.error.VoyageError), len(requests)


seen = {status: error_at(status) for status in (503, 529)}
print(f"voyageai {version('voyageai')}: error, is a VoyageError, requests: {seen}")
expected = {503: ("ServiceUnavailableError", True, 1), 529: ("AttributeError", False, 1)}
raise SystemExit(0 if seen == expected else "changed: 529 is a VoyageError")
PYTHON
