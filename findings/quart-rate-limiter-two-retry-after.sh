#!/usr/bin/env bash
# A 429 of quart-rate-limiter has two Retry-After lines, and says that requests are left.
# Expected: one Retry-After (RFC 9110, section 10.2.3: a single value), and the limit that was reached: of 10 a minute
# and 2 an hour, the third request reaches the second one.
# Seen: Retry-After: 1800 twice, which httpx reads as "1800, 1800", a number for no SDK, so that openai's retries after
# half a second; beside it RateLimit-Remaining: 8 and a reset in seconds, those of the minute, which has admitted it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'quart-rate-limiter==0.12.1' 'quart==0.22.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from datetime import timedelta
from importlib.metadata import version

import httpx
from quart import Quart
from quart_rate_limiter import RateLimiter, rate_limit

app = Quart("shop")
RateLimiter(app)


@app.post("/orders")
@rate_limit(10, timedelta(minutes=1))
@rate_limit(2, timedelta(hours=1))
async def order():
    return "ordered"


async def main():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
        return [await client.post("/orders") for _ in range(3)]


refused = asyncio.run(main())[-1]
names = ("retry-after", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset")
print(f"quart-rate-limiter {version('quart-rate-limiter')}: {refused.status_code}")
print({name: refused.headers.get(name) for name in names})
seen = refused.status_code, refused.headers.get_list("retry-after"), refused.headers["ratelimit-remaining"]
raise SystemExit(0 if seen == (429, ["1800", "1800"], "8") else "changed: one line, and what was reached")
PYTHON
