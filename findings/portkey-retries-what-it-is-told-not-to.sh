#!/usr/bin/env bash
# portkey's SDK repeats a POST that the server says not to repeat, and gives up where the server names a wait.
# Expected: what openai's SDK does, on which it is built and whose copy it holds: `x-should-retry: false` ends the
# retries, and a 429 with Retry-After is retried after that time.
# Seen: a 502 with `x-should-retry: false` is sent twice; a 429 is raised at once, also with `Retry-After: 1` and with
# `x-should-retry: true`. The wait of a 503 is kept.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'portkey-ai==2.3.4' 'openai==3.57.0'
"$work/venv/bin/python" - <<'PYTHON'
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import openai
import portkey_ai

RESPONSES = {
    "/not-again": (502, {"x-should-retry": "false"}),
    "/again": (429, {"x-should-retry": "true"}),
    "/later": (429, {"Retry-After": "1"}),
}
requests = []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.removesuffix("/chat/completions")
        requests.append(path)
        status, headers = RESPONSES[path]
        self.send_response(status)
        for name, value in {**headers, "Content-Type": "application/json", "Content-Length": "2"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()


def count(client):
    """The requests that one call makes."""
    requests.clear()
    try:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hello"}])
    except Exception as error:
        return len(requests), type(error).__name__
    raise SystemExit("changed: the call succeeds")


seen = {}
for path in RESPONSES:
    url = f"http://127.0.0.1:{server.server_port}{path}"
    with openai.OpenAI(api_key="k", base_url=url, max_retries=1) as client:
        seen[path] = (count(portkey_ai.Portkey(api_key="k", base_url=url)), count(client))
print(f"portkey-ai {version('portkey-ai')}, openai {version('openai')} (requests, error): {seen}")
expected = {"/not-again": (2, 1), "/again": (1, 2), "/later": (1, 2)}
as_stated = {path: tuple(number for number, _ in calls) for path, calls in seen.items()} == expected
raise SystemExit(0 if as_stated else "changed: other retries")
PYTHON
