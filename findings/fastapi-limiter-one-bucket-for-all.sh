#!/usr/bin/env bash
# fastapi-limiter counts the requests of all callers together.
# Expected: two requests a minute for each address, because the key of a request holds the address of its client.
# Seen: the limiter of pyrate-limiter that its documentation passes has one bucket, whatever the key: two requests of
# one address, and every other address gets 429. The 429 has no Retry-After.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q \
  'fastapi-limiter==0.2.0' 'pyrate-limiter==4.5.1' 'fastapi==0.165.0' 'starlette==1.10.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

import httpx
from fastapi import Depends, FastAPI
from fastapi_limiter.depends import RateLimiter
from pyrate_limiter import Duration, Limiter, Rate

app = FastAPI()


@app.get("/", dependencies=[Depends(RateLimiter(limiter=Limiter(Rate(2, Duration.MINUTE))))])
async def orders():
    return []


async def statuses(address):
    transport = httpx.ASGITransport(app, client=(address, 40000))
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
        responses = [await client.get("/") for _ in range(2)]
    return [(response.status_code, response.headers.get("retry-after")) for response in responses]


async def main():
    return [await statuses(address) for address in ("192.0.2.1", "192.0.2.2")]


first, second = asyncio.run(main())
print(f"fastapi-limiter {version('fastapi-limiter')}: first address: {first}; second address: {second}")
as_stated = first == [(200, None)] * 2 and second == [(429, None)] * 2
raise SystemExit(0 if as_stated else "changed: an address has requests of its own")
PYTHON
