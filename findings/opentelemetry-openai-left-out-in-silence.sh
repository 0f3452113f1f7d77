#!/usr/bin/env bash
# OpenTelemetry's instrumentation of openai is left out without a word when a module of its own is missing.
# Expected: what pip installs for opentelemetry-instrumentation-openai-v2 can be imported, or opentelemetry-instrument
# says what it leaves out.
# Seen: its requirement has no upper bound, and util-genai 1.3b0 has no longer a module that it imports. pip check is
# content. opentelemetry-instrument takes each ModuleNotFoundError for a library that is not installed: the app runs, it
# has no span, and standard error is empty. With util-genai 1.0b0 the call is a span. (httpx, which it imports and does
# not require either, is installed here.)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
cat >"$work/app.py" <<'PYTHON'
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai

CHOICE = b'{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}'
BODY = b'{"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [' + CHOICE + b"]}"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = openai.OpenAI(api_key="k", base_url=f"http://127.0.0.1:{server.server_port}", max_retries=0)
print(client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}]).choices[0].message.content)
PYTHON
result() {
  "$work/venv/bin/pip" install -q 'opentelemetry-instrumentation-openai-v2==2.4b0' "opentelemetry-util-genai==$1" \
    'opentelemetry-distro==0.66b2' 'opentelemetry-sdk==1.45.2' 'openai==3.57.0' 'httpx==0.28.1'
  "$work/venv/bin/pip" check >"$work/check" || { cat "$work/check"; exit 1; }
  "$work/venv/bin/opentelemetry-instrument" --traces_exporter console --metrics_exporter none --logs_exporter none \
    "$work/venv/bin/python" "$work/app.py" >"$work/out" 2>"$work/error"
  echo "$(grep -c '^hello$' "$work/out" || true) response," \
    "$(grep -c '"trace_id"' "$work/out" || true) spans, $(wc -l <"$work/error") lines of standard error"
}
newest=$(result 1.3b0)
error=$("$work/venv/bin/python" -c 'import opentelemetry.instrumentation.openai_v2' 2>&1 | tail -1) || true
older=$(result 1.0b0)
echo "opentelemetry-instrumentation-openai-v2 2.4b0: util-genai 1.3b0: $newest ($error); 1.0b0: $older"
[[ "$newest" == "1 response, 0 spans, 0 lines of standard error" && "$error" == *"util.genai.instruments'" &&
  "$older" == "1 response, 1 spans, "* ]] || {
  echo "changed: the call is a span, or a line says why it is none" >&2
  exit 1
}
