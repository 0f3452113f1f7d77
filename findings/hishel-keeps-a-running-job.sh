#!/usr/bin/env bash
# hishel's client stores responses that say no-store, for good.
# Expected: what `Cache-Control: no-store` forbids to store is asked for again, as hishel 1 does and as RFC 9111 says.
# Seen: since version 2 a client without options stores each successful GET by its URL, without an end. A job that is
# polled is "running" for ever, and an event stream is the one of the first call. `rfc=True` follows the RFC.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/2"
python3 -m venv "$work/1"
"$work/2/bin/pip" install -q 'hishel[httpx]==2.0.0' 'httpx==0.28.1'
"$work/1/bin/pip" install -q 'hishel[httpx]==1.4.0' 'httpx==0.28.1'
cat >"$work/poll.py" <<'PYTHON'
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import hishel.httpx

Client = getattr(hishel.httpx, "SyncCacheClient", None) or hishel.httpx.CacheClient  # its name in version 1, and in 2

states = ["running", "running", "done"]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        state = states.pop(0).encode()
        self.send_response(200)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Length", str(len(state)))
        self.end_headers()
        self.wfile.write(state)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
with Client() as client:
    polled = [client.get(f"http://127.0.0.1:{server.server_port}/jobs/1").text for _ in range(3)]
print(version("hishel"), *polled)
PYTHON
mkdir "$work/new" "$work/old"
new=$(cd "$work/new" && "$work/2/bin/python" "$work/poll.py")
old=$(cd "$work/old" && "$work/1/bin/python" "$work/poll.py")
echo "hishel $new; hishel $old"
[ "$new; $old" = "2.0.0 running running running; 1.4.0 running running done" ] || { echo changed; exit 1; }
