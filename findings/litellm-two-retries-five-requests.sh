#!/usr/bin/env bash
# litellm sends five requests for num_retries=2.
# Expected: num_retries=2 repeats a failed call at most twice: three requests.
# Seen: the openai SDK inside repeats the first call by itself as well: three requests, then litellm's own two, in
# which the SDK's count of retries begins at 0 again.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'litellm==1.110.2' 'openai==3.57.0' 'tenacity==9.1.4'
"$work/venv/bin/python" - <<'PYTHON'
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else the import fetches prices from the network

import litellm

requests = []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        requests.append(self.headers["x-stainless-retry-count"])
        self.send_response(500)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
litellm.suppress_debug_info = True
try:
    litellm.completion(
        model="openai/m",
        api_key="none",
        api_base=f"http://127.0.0.1:{server.server_port}/v1",
        messages=[{"role": "user", "content": "Hello."}],
        num_retries=2,
    )
except litellm.InternalServerError:
    pass
print(f"litellm {version('litellm')}: {len(requests)} requests; the openai SDK's counts in them: {requests}")
raise SystemExit(0 if len(requests) == 5 else "changed: not five requests")
PYTHON
