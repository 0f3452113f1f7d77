#!/usr/bin/env bash
# fastapi-cache2 stores the body of an error, and sends it as a 200.
# Expected: a route that returns JSONResponse(..., 503) with Retry-After is asked again, or its 503 is repeated.
# Seen: the first caller gets the 503, and every other one within the minute a 200 whose body is the error, without
# Retry-After: a client that looks at the status takes the error for data. The 202 that a route sets is lost as well.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q \
  'fastapi-cache2==0.2.2' 'fastapi==0.165.0' 'jinja2==3.1.6' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

import httpx
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from fastapi_cache import FastAPICache
from fastapi_cache.backends.inmemory import InMemoryBackend
from fastapi_cache.decorator import cache

app = FastAPI()
FastAPICache.init(InMemoryBackend())


@app.get("/prices")
@cache(expire=60)
async def prices():
    return JSONResponse({"error": "busy"}, 503, {"Retry-After": "1"})


@app.get("/job")
@cache(expire=60)
async def job(response: Response):
    response.status_code = 202
    return {"state": "running"}


async def main():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
        first, second = [await client.get("/prices") for _ in range(2)]
        print(f"fastapi-cache2 {version('fastapi-cache2')}: {first.status_code} {first.text}, then")
        print(f"{second.status_code} {second.text}, Retry-After: {second.headers.get('retry-after')}")
        states = [(await client.get("/job")).status_code for _ in range(2)]
        return first.status_code, second.status_code, first.text == second.text, states


seen = asyncio.run(main())
raise SystemExit(0 if seen == (503, 200, True, [202, 200]) else "changed: a status is stored with its body")
PYTHON
