#!/usr/bin/env bash
# asgi-ratelimit's Retry-After is the length of the window, not the time until its end.
# Expected: a caller who is refused 20 seconds before the window of a minute ends is told to wait for 20 seconds.
# Seen: "Retry-After: 60" until the end, and the window begins with the first request: who obeys waits for up to twice
# as long as needed, and a caller who asks again every few seconds is served earlier than one who obeys.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'asgi-ratelimit==0.10.0' 'redis==8.1.0' 'fakeredis[lua]==2.41.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

import fakeredis
import httpx
from ratelimit import RateLimitMiddleware, Rule
from ratelimit.backends.redis import RedisBackend

redis = fakeredis.FakeAsyncRedis()


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def caller(scope):
    return "caller", "default"


async def main():
    limited = RateLimitMiddleware(app, caller, RedisBackend(redis), {"/": [Rule(minute=1)]})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(limited), base_url="http://shop.example") as client:
        await client.get("/")
        [key] = await redis.keys()
        await redis.expire(key, 20)  # as after forty seconds
        refused = await client.get("/")
    return refused.status_code, int(refused.headers["retry-after"]), await redis.ttl(key)


status, retry_after, left = asyncio.run(main())
print(f"asgi-ratelimit {version('asgi-ratelimit')}: {status}, Retry-After: {retry_after}; the window ends in {left} s")
raise SystemExit(0 if (status, retry_after) == (429, 60) and left <= 20 else "changed: the time that is left")
PYTHON
