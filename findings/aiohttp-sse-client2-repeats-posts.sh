#!/usr/bin/env bash
# aiohttp-sse-client2 sends a POST again when its event stream has ended.
# Expected: a POST whose stream ends, which is how a model's response ends, is over: the iteration stops.
# Seen: five seconds later the same POST is sent again, and again, without an error and without an end; a completion
# is billed each time. `EventSource` takes the method as an option, so POST is a use that it knows.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'aiohttp-sse-client2==0.3.0' 'aiohttp==3.14.5'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

from aiohttp_sse_client2.client import EventSource

requests = []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        requests.append(self.rfile.read(int(self.headers["content-length"])))
        body = b'data: {"text": "Hello."}\n\ndata: [DONE]\n\n'
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()


async def main():
    data = []
    options = {"option": {"method": "POST"}, "json": {"prompt": "Hi."}}
    async with EventSource(f"http://127.0.0.1:{server.server_port}", **options) as events:
        async with asyncio.timeout(60):
            async for event in events:
                data.append(event.data)
                if len(data) == 4:
                    break
    return data


data = asyncio.run(main())
print(f"aiohttp-sse-client2 {version('aiohttp-sse-client2')}: {len(requests)} equal requests for one stream; {data}")
raise SystemExit(0 if len(requests) == 2 and requests[0] == requests[1] else "changed: a POST is sent once")
PYTHON
