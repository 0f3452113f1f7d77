#!/usr/bin/env bash
# A response that the cache middleware of cashews allows to be cached is stale when it is sent, and grows younger.
# Expected: Age is the time since the response was made (RFC 9111, section 5.1): 0 at first, and 2 after two seconds.
# Seen: Age is the time that is left, always the number of max-age: 60 at first, 58 after two seconds. What is as old as
# its max-age is stale (section 4.2), so that a browser or a CDN never takes it from its cache. The response that is made
# and stored, the freshest of all, says `no-cache`.
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
from cashews.contrib.fastapi import CacheRequestControlMiddleware
from fastapi import FastAPI

cache.setup("mem://")
app = FastAPI()
app.add_middleware(CacheRequestControlMiddleware)


@cache(ttl="1m", key="catalogue")
async def catalogue():
    return ["table"]


@app.get("/catalogue")
async def read():
    return await catalogue()


async def main():
    seen = []
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example") as client:
        for wait in (0, 0, 2):
            await asyncio.sleep(wait)
            response = await client.get("/catalogue")
            seen.append((response.headers["cache-control"], response.headers.get("age")))
    return seen


made, kept, later = asyncio.run(main())
print(f"cashews {version('cashews')}: made: {made}; from the cache: {kept}; two seconds later: {later}")
ages = [int(age) for _, age in (kept, later)]
as_stated = made == ("no-cache", None) and all(f"private, max-age={age}" == control for control, age in (kept, later))
as_stated = as_stated and ages[0] in (59, 60) and ages[1] < ages[0]
raise SystemExit(0 if as_stated else "changed: Age is the time since the response was made")
PYTHON
