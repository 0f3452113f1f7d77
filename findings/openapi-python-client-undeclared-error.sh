#!/usr/bin/env bash
# A client that openapi-python-client generates returns None for an error that the document does not declare.
# Expected: a call whose response is a 503 raises, or returns something that says so.
# Seen: sync() returns None, as it does for no content: an app that declares its 200 and 422 alone, as FastAPI does by
# itself, has all its 429 and 503 read as "nothing found".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'openapi-python-client==0.29.1'
"$work/venv/bin/python" - <<'PYTHON'
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

CONTENT = {"application/json": {"schema": {"type": "object"}}}
RESPONSES = {status: {"description": status, "content": CONTENT} for status in ("200", "429")}
DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "shop", "version": "1"},
    "paths": {"/orders": {"get": {"operationId": "orders", "responses": RESPONSES}}},
}


class Handler(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self):
        self.send_response(Handler.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "13")
        self.end_headers()
        self.wfile.write(b'{"error": {}}')

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
with TemporaryDirectory() as folder:
    Path(folder, "openapi.json").write_text(json.dumps(DOCUMENT))
    command = [str(Path(sys.executable).with_name("openapi-python-client")), "generate", "--path", "openapi.json"]
    subprocess.run([*command, "--meta", "none", "--output-path", "shop"], cwd=folder, check=True, capture_output=True)
    sys.path.insert(0, folder)
    from shop import Client
    from shop.api.default import orders

    seen = {}
    for Handler.status in (200, 429, 503):
        result = orders.sync(client=Client(base_url=f"http://127.0.0.1:{server.server_port}"))
        seen[Handler.status] = type(result).__name__
print(f"openapi-python-client {version('openapi-python-client')}: 200 and 429 are declared; results: {seen}")
raise SystemExit(0 if seen[503] == "NoneType" and seen[429] != "NoneType" else "changed: a 503 is not None")
PYTHON
