#!/usr/bin/env bash
# Litestar counts the requests of all its rate limits in one place.
# Expected: an app with 100 requests a minute whose route /orders allows 2 a minute refuses the third order.
# Seen: each RateLimitConfig has the address of the client for its key, and one store unless it names another: two
# requests for anything else use up the limit of /orders, so that the first order is a 429. A request that both limits
# count is counted twice. The 429 has no Retry-After.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'litestar==2.25.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import logging
from importlib.metadata import version

import httpx
from litestar import Litestar, get, post
from litestar.middleware.rate_limit import RateLimitConfig

logging.disable(logging.CRITICAL)
of_the_app = RateLimitConfig(rate_limit=("minute", 100))
of_the_route = RateLimitConfig(rate_limit=("minute", 2))


@get("/models")
async def models() -> dict[str, str]:
    return {}


@post("/orders", middleware=[of_the_route.middleware])
async def order() -> dict[str, str]:
    return {}


async def main():
    app = Litestar([models, order], middleware=[of_the_app.middleware])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
        for _ in range(2):
            (await client.get("/models")).raise_for_status()
        first = await client.post("/orders")
        after = await client.get("/models")
        return first.status_code, "retry-after" in first.headers, int(after.headers["ratelimit-remaining"])


status, retry_after, remaining = asyncio.run(main())
print(f"litestar {version('litestar')}: the first order: {status}, Retry-After: {retry_after}")
print(f"of 100 requests, {remaining} are left after four")
as_stated = (status, retry_after) == (429, False)
raise SystemExit(0 if as_stated else "changed: each limit has a counter of its own")
PYTHON
