#!/usr/bin/env bash
# httpx-auth takes a token endpoint that is busy for an invalid grant, or raises TypeError.
# Expected: an error of the token endpoint keeps its status and its Retry-After: a 503 is not a refusal of the
# credentials.
# Seen: a 503 with a page is InvalidGrantRequest, as a 400 invalid_grant is, and the error has neither response nor
# status. A 429 whose JSON has an object in `error`, as many APIs and gateways write it, is TypeError: the text of the
# error is lost too.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'httpx-auth==0.23.1' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import httpx
from httpx_auth import OAuth2ClientCredentials

RESPONSES = {
    "/refused": (400, "application/json", b'{"error": "invalid_grant", "error_description": "expired"}'),
    "/page": (503, "text/html", b"<html>try again</html>"),
    "/object": (429, "application/json", b'{"error": {"message": "Slow down", "code": "rate_limit_exceeded"}}'),
}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        status, media_type, body = RESPONSES[self.path]
        self.send_response(status)
        self.send_header("Retry-After", "3")
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
seen = {}
for path in RESPONSES:
    try:
        httpx.post(f"{url}/orders", auth=OAuth2ClientCredentials(url + path, client_id="a", client_secret="b"))
    except Exception as error:
        known = [name for name in ("response", "status_code", "retry_after") if hasattr(error, name)]
        seen[path] = (type(error).__name__, str(error), known)
print(f"httpx-auth {version('httpx-auth')}: {seen}")
kinds = {path: (kind, known) for path, (kind, _, known) in seen.items()}
invalid = ("InvalidGrantRequest", [])
expected = {"/refused": invalid, "/page": invalid, "/object": ("TypeError", [])}
raise SystemExit(0 if kinds == expected else "changed: the errors differ")
PYTHON
