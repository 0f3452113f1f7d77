#!/usr/bin/env bash
# asgi-idempotency-header keeps the key of a request that crashed as one that runs.
# Expected: a crash ends the request, so that the next one with the key is executed or gets the stored 500.
# Seen: each further request with the key is refused with 409 "already pending", and the handler never runs again. The
# expiry is that of stored responses: a key that has none stays in the store, in memory and in redis.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'asgi-idempotency-header==0.2.0' 'fastapi==0.165.0' \
  'starlette==1.10.0' 'redis==8.1.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

import httpx
from idempotency_header_middleware import IdempotencyHeaderMiddleware
from idempotency_header_middleware.backends import MemoryBackend
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route

executions = 0


async def pay(request):
    global executions
    executions += 1
    if executions == 1:
        raise ConnectionError("the database restarts")
    return JSONResponse({"paid": True})


async def main():
    keys = Middleware(IdempotencyHeaderMiddleware, backend=MemoryBackend())
    app = Starlette(routes=[Route("/pay", pay, methods=["POST"])], middleware=[keys])
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
        headers = {"Idempotency-Key": "6e7d8c1f-5c0b-4c53-8d4e-2f1b7a9c3d10"}
        return [(await client.post("/pay", headers=headers)).status_code for _ in range(3)]


statuses = asyncio.run(main())
print(f"asgi-idempotency-header {version('asgi-idempotency-header')}: {statuses}, executions {executions}")
raise SystemExit(0 if (statuses, executions) == ([500, 409, 409], 1) else "changed: a crash ends the request")
PYTHON
