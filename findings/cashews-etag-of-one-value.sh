#!/usr/bin/env bash
# The ETag middleware of cashews tags a response by one cached value that was read for it.
# Expected: an ETag belongs to what the response says (RFC 9110, section 8.8.3): another basket has another one; and an
# If-None-Match is judged for its own resource.
# Seen: a route that reads a cached currency, and a basket from its store, has the ETag of the currency: the basket
# changes, and a client that revalidates gets 304, without a call of the route, until the currency expires. The 304 is
# given for any path that is asked with that tag.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'cashews==7.6.0' 'fastapi==0.165.0' 'starlette==1.10.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

import httpx
from cashews import cache
from cashews.contrib.fastapi import CacheEtagMiddleware
from fastapi import FastAPI

cache.setup("mem://")
basket, called = ["table"], []
app = FastAPI()
app.add_middleware(CacheEtagMiddleware)


@cache(ttl="10m", key="currency")
async def currency():
    return "EUR"


@app.get("/basket")
async def read_basket():
    called.append("/basket")
    return {"currency": await currency(), "basket": basket}


@app.get("/orders")
async def read_orders():
    called.append("/orders")
    return []


async def main():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example") as client:
        first = await client.get("/basket")
        basket.append("chair")
        second = await client.get("/basket")
        called.clear()
        tag = {"If-None-Match": first.headers["etag"]}
        again = [(await client.get(path, headers=tag)).status_code for path in ("/basket", "/orders")]
        return first, second, again


first, second, again = asyncio.run(main())
same = first.headers["etag"] == second.headers["etag"]
print(f"cashews {version('cashews')}: {first.text} and {second.text} have one ETag: {same}")
print(f"revalidated /basket and /orders: {again}, routes called: {called}")
as_stated = first.json() != second.json() and same and (again, called) == ([304, 304], [])
raise SystemExit(0 if as_stated else "changed: another response has another ETag")
PYTHON
