#!/usr/bin/env bash
# asgi-correlation-id adds a second X-Request-ID to a response that has one.
# Expected: an app that names its request in the response (as APIs with ids such as req_1 do) is left alone.
# Seen: two lines with two ids. A client that reads the header, as openai's SDK does, gets them joined: no log holds
# that id.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'asgi-correlation-id==5.0.1' 'starlette==1.10.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

import httpx
from asgi_correlation_id import CorrelationIdMiddleware
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route


async def order(request):
    return JSONResponse({"id": "order-1"}, headers={"X-Request-ID": "req_1"})


app = CorrelationIdMiddleware(Starlette(routes=[Route("/", order)]))


async def main():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example") as client:
        response = await client.get("/")
    return response.headers.get_list("x-request-id"), response.headers["x-request-id"]


lines, joined = asyncio.run(main())
print(f"asgi-correlation-id {version('asgi-correlation-id')}: {len(lines)} lines; a client reads {joined!r}")
raise SystemExit(0 if len(lines) == 2 and lines[0] == "req_1" else "changed: there is one line")
PYTHON
