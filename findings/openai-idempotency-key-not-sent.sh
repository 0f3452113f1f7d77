#!/usr/bin/env bash
# The option idempotency_key of openai's and anthropic's SDKs puts nothing on the wire.
# Expected: client.post(..., options={"idempotency_key": "order-1"}) sends Idempotency-Key: order-1, or refuses the
# option.
# Seen: no header holds the key, without a warning: the name of the header is an attribute that neither SDK sets. A
# header of one's own, extra_headers={"Idempotency-Key": ...}, is sent.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'openai==3.57.0' 'anthropic==2.14.0'
"$work/venv/bin/python" - <<'PYTHON'
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anthropic
import openai

requests = []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        requests.append(self.headers)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
sent = {}
for sdk, library in ((openai.OpenAI, openai), (anthropic.Anthropic, anthropic)):
    with sdk(api_key="none", base_url=url) as client:
        client.post("/v1/orders", cast_to=object, body={}, options={"idempotency_key": "order-1"})
        client.post("/v1/orders", cast_to=object, body={}, options={"headers": {"Idempotency-Key": "order-1"}})
    option, header = ([name.lower() for name, value in each.items() if value == "order-1"] for each in requests[-2:])
    sent[f"{library.__name__} {library.__version__}"] = {"as an option": option, "as a header": header}
print(sent)
same = all(each == {"as an option": [], "as a header": ["idempotency-key"]} for each in sent.values())
raise SystemExit(0 if same else "changed: the option is sent")
PYTHON
