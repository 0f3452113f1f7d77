#!/usr/bin/env bash
# aiohttp-retry repeats a POST that failed with 500 by default, and does not look at Retry-After.
# Expected: a POST is repeated only where it is known that the first one had no effect; a 503 with Retry-After: 30 is
# repeated no sooner than after 30 seconds.
# Seen: RetryClient(session).post(...) sends a POST three times, within a second, after a 500 and after such a 503.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'aiohttp-retry==2.9.1' 'aiohttp==3.14.5'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import time
from importlib.metadata import version

from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from aiohttp_retry import RetryClient

requests = []


async def order(request):
    requests.append(time.monotonic())
    status = int(request.match_info["status"])
    return web.json_response({}, status=status, headers={"Retry-After": "30"} if status == 503 else {})


async def main():
    app = web.Application()
    app.router.add_post("/{status}", order)
    seen = {}
    async with TestServer(app, host="127.0.0.1") as server, ClientSession() as session:
        for status in (500, 503):
            requests.clear()
            async with RetryClient(session).post(server.make_url(f"/{status}"), json={}):
                seen[status] = len(requests), round(requests[-1] - requests[0], 1)
    return seen


seen = asyncio.run(main())
print(f"aiohttp-retry {version('aiohttp-retry')}: (POSTs, seconds from the first to the last) by status: {seen}")
raise SystemExit(0 if all(posts == 3 and span < 20 for posts, span in seen.values()) else "changed: other attempts")
PYTHON
