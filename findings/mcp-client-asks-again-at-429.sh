#!/usr/bin/env bash
# The MCP SDK's client asks a second time at once where its first request is refused with 429 and Retry-After.
# Expected: the call fails with an error that names status, message and wait, and nothing is sent before the wait is
# over.
# Seen: the refused server/discover is followed by initialize within the same moment; the error is "Server returned an
# error response", code -32603: neither 429 nor the message nor Retry-After can be read from it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'mcp==2.3.0'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

BODY = b'{"error":{"message":"Slow down.","type":"requests","param":null,"code":"rate_limit_exceeded"}}'
methods = []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        methods.append(json.loads(self.rfile.read(int(self.headers["content-length"])))["method"])
        self.send_response(429)
        self.send_header("Content-Type", "application/json")
        self.send_header("Retry-After", "60")
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_):
        pass


async def outcome(url):
    errors = []
    try:
        async with asyncio.timeout(30), Client(streamable_http_client(url)) as client:
            await client.list_tools()
    except* MCPError as group:
        errors += [str(each.error) for each in leaves(group)]
    return errors


def leaves(error):
    if not isinstance(error, ExceptionGroup):
        return [error]
    return [leaf for each in error.exceptions for leaf in leaves(each)]


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
errors = asyncio.run(outcome(f"http://127.0.0.1:{server.server_port}/mcp"))
print(f"mcp {version('mcp')}: refused {methods}; the error: {errors}")
silent = errors and not any(word in str(errors) for word in ("429", "Slow down", "rate_limit"))
raise SystemExit(0 if len(methods) == 2 and silent else "changed: one request, or an error that says more")
PYTHON
