#!/usr/bin/env bash
# requests-sse and aiohttp-sse-client2 take all spaces from the beginning of an event's data.
# Expected: one space after the colon belongs to the format, every other one to the data (HTML standard, section 9.2.6):
# "data:  you" is the token " you".
# Seen: a text whose tokens are the data of events ("I", " owe", " you") arrives without its spaces, and generated code
# without its indentation. A line feed at the end of the data is lost as well. httpx-sse and aiosseclient keep both.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'requests-sse==0.5.3' 'aiohttp-sse-client2==0.3.0' 'aiosseclient==0.1.8' \
  'httpx-sse==0.4.3' 'httpx==0.28.1' 'aiohttp==3.14.5' 'requests==2.34.2'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import aiohttp_sse_client2.client
import httpx
import httpx_sse
import requests_sse
from aiosseclient import aiosseclient

TOKENS = ["I", " owe", " you\n", "    5"]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for token in TOKENS:
            lines = "".join(f"data: {line}\n" for line in token.split("\n"))
            self.wfile.write(f"{lines}\n".encode())

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/"


async def read(events):
    data = []
    async for event in events:
        data.append(event.data)
        if len(data) == len(TOKENS):
            break
    return data


async def read_by_aiohttp():
    async with aiohttp_sse_client2.client.EventSource(url) as events:
        return await read(events)


with requests_sse.EventSource(url, timeout=20) as events:
    seen = {"requests-sse": [next(events).data for _ in TOKENS]}
seen["aiohttp-sse-client2"] = asyncio.run(asyncio.wait_for(read_by_aiohttp(), 20))
seen["aiosseclient"] = asyncio.run(asyncio.wait_for(read(aiosseclient(url)), 20))
with httpx.Client() as client, httpx_sse.connect_sse(client, "GET", url) as source:
    seen["httpx-sse"] = [event.data for event in source.iter_sse()]
print({f"{name} {version(name)}": "".join(data) for name, data in seen.items()})
stripped = [token.strip() for token in TOKENS]
expected = {"requests-sse": stripped, "aiohttp-sse-client2": stripped, "aiosseclient": TOKENS, "httpx-sse": TOKENS}
raise SystemExit(0 if seen == expected else "changed: spaces are data")
PYTHON
