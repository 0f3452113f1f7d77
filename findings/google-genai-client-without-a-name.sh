#!/usr/bin/env bash
# google-genai closes a client that has no name of its own before its call is sent.
# Expected: Client(...).models.generate_content(...) in one expression calls the model: client.models belongs to the
# client.
# Seen: RuntimeError "Cannot send a request, as the client has been closed": the models do not keep the client, whose
# finalizer closes the connections while the call is prepared. With the client in a variable the same call works.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'google-genai==3.6.1'
"$work/venv/bin/python" - <<'PYTHON'
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

from google import genai

BODY = b'{"candidates":[{"content":{"role":"model","parts":[{"text":"Hello."}]}}]}'


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
options = genai.types.HttpOptions(base_url=f"http://127.0.0.1:{server.server_port}")
client = genai.Client(api_key="none", http_options=options)
named = client.models.generate_content(model="m", contents="Hello.").text
try:
    unnamed = genai.Client(api_key="none", http_options=options).models.generate_content(model="m", contents="Hi.").text
except RuntimeError as error:
    unnamed = str(error)
print(f"google-genai {version('google-genai')}: in a variable: {named!r}; in one expression: {unnamed!r}")
raise SystemExit(0 if named == "Hello." and "closed" in unnamed else "changed: the client stays open")
PYTHON
