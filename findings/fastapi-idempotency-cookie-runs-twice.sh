#!/usr/bin/env bash
# fastapi-idempotency executes a POST again if its response set a cookie, and replays a refusal that executed nothing.
# Expected: the retry of an order that was executed gets the stored response, whatever headers it has; the retry of a
# 429 is executed, because nothing was.
# Seen: the other way round: two orders for one Idempotency-Key, without a warning, and the 429 again.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'fastapi-idempotency==0.1.1' 'fastapi==0.165.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

import httpx
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from fastapi_idempotency import IdempotencyMiddleware

app = FastAPI()
executions = {"/plain": 0, "/cookie": 0, "/refused": 0}


@app.post("/{name}")
async def order(name: str):
    executions[f"/{name}"] += 1
    headers = {"Set-Cookie": "session=1"} if name == "cookie" else {}
    return JSONResponse({}, 429 if name == "refused" else 200, headers)


async def main():
    transport = httpx.ASGITransport(IdempotencyMiddleware(app))
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
        for number, path in enumerate(executions):
            header = {"Idempotency-Key": f"5b6b2d6e-6d5a-4d1c-9a53-0f6a5c1f2f0{number}"}
            for _ in range(2):
                await client.post(path, json={}, headers=header)


asyncio.run(main())
print(f"fastapi-idempotency {version('fastapi-idempotency')}: executions of a POST and its retry: {executions}")
expected = {"/plain": 1, "/cookie": 2, "/refused": 1}
raise SystemExit(0 if executions == expected else "changed: other executions")
PYTHON
