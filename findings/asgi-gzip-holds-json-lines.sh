#!/usr/bin/env bash
# asgi-gzip holds a stream of JSON lines back until it ends.
# Expected: each line is sent when the app sends it, as with Starlette's GZipMiddleware, of which this is a copy.
# Seen: only text/event-stream is left alone. A stream of application/x-ndjson, the format of Ollama's API, is written
# to the compressor and not flushed: empty messages, then all lines at once with the last one.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'asgi-gzip==0.3' 'starlette==1.10.0'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import zlib
from importlib.metadata import version

import asgi_gzip
from starlette.middleware.gzip import GZipMiddleware

LINES = [b'{"token": "%d"}\n' % number for number in range(4)]
SCOPE = {"type": "http", "method": "POST", "path": "/", "headers": [(b"accept-encoding", b"gzip")]}


async def app(scope, receive, send):
    headers = [(b"content-type", b"application/x-ndjson")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for line in LINES:
        await send({"type": "http.response.body", "body": line, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def readable_lines(middleware):
    """How many lines a client can read after each message of the body."""
    decompressor, text, counts = zlib.decompressobj(wbits=31), b"", []

    async def send(message):
        nonlocal text
        if message["type"] == "http.response.body":
            text += decompressor.decompress(message["body"])
            counts.append(text.count(b"\n"))

    await middleware(app)(SCOPE, None, send)
    return counts


seen, other = (asyncio.run(readable_lines(each)) for each in (asgi_gzip.GZipMiddleware, GZipMiddleware))
print(f"asgi-gzip {version('asgi-gzip')}: {seen}; starlette {version('starlette')}: {other}")
raise SystemExit(0 if (seen, other) == ([0, 0, 0, 0, 4], [1, 2, 3, 4, 4]) else "changed: lines are sent at once")
PYTHON
