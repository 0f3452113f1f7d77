#!/usr/bin/env bash
# A client that obeys the Retry-After of fastapi-throttle is refused again, and then without one.
# Expected: the wait is rounded up (RFC 9110, section 10.2.3: whole seconds): after it the request is admitted.
# Seen: the wait is rounded down: with one request in three seconds the refusal says 2, and the request two seconds later
# is refused too, without Retry-After, because less than a second is left. openai and most SDKs go on with their own
# half a second then.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'fastapi-throttle==0.1.8' 'fastapi==0.165.0' 'starlette==1.10.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

import httpx
from fastapi import Depends, FastAPI
from fastapi_throttle import RateLimiter

app = FastAPI()


@app.post("/orders", dependencies=[Depends(RateLimiter(times=1, seconds=3))])
async def order():
    return "ordered"


async def main():
    seen = []
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example") as client:
        for _ in range(3):
            response = await client.post("/orders")
            seen.append((response.status_code, response.headers.get("retry-after")))
            await asyncio.sleep(int(response.headers.get("retry-after", 0)))
    return seen


seen = asyncio.run(main())
print(f"fastapi-throttle {version('fastapi-throttle')}: status and Retry-After of three POSTs that obey it: {seen}")
raise SystemExit(0 if seen == [(200, None), (429, "2"), (429, None)] else "changed: who waits is admitted")
PYTHON
