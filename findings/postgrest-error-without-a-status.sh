#!/usr/bin/env bash
# postgrest's client raises an error of which nothing is known for a 429 of a gateway, and takes a page for data.
# Expected: an error has the status of the response, and its message where there is one; an insert whose response is an
# HTML page has failed.
# Seen: JSON that is not of PostgREST's own form gives APIError with None for message, code, hint and details: status
# and Retry-After cannot be read from it. A 200 with a login page is a successful insert, and the page is its data.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'postgrest==2.34.1'
"$work/venv/bin/python" - <<'PYTHON'
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

from postgrest import APIError, SyncPostgrestClient

RESPONSES = {
    "/limited/orders": (429, "application/json", b'{"error": {"message": "Slow down", "code": "rate_limit_exceeded"}}'),
    "/page/orders": (200, "text/html", b"<html>log in</html>"),
}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        status, media_type, body = RESPONSES[self.path]
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Retry-After", "3")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()


def insert(path):
    client = SyncPostgrestClient(f"http://127.0.0.1:{server.server_port}{path}")
    try:
        return client.from_("orders").insert({"id": 1}).execute().data
    except APIError as error:
        return [error.message, error.code, error.hint, error.details, error.__cause__, error.__context__]


limited, page = insert("/limited"), insert("/page")
print(f"postgrest {version('postgrest')}: 429: {limited}; a page: {page!r}")
as_stated = limited == [None] * 6 and page == "<html>log in</html>"
raise SystemExit(0 if as_stated else "changed: an error has its status")
PYTHON
