#!/usr/bin/env bash
# Litestar makes one instance of a middleware for each route, also of a middleware that the app itself lists.
# Expected: Litestar(middleware=[f]) calls the factory f once: the middleware is the app's.
# Seen: f is called once for each route handler and method, so that state in the instance, such as a count of requests
# in memory, is kept for each route apart.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'litestar==2.25.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

import httpx
from litestar import Litestar, get

made = []


def counting(app):
    """A middleware that counts in its own instance."""
    counts = {"requests": 0}
    made.append(counts)

    async def middleware(scope, receive, send):
        counts["requests"] += 1
        await app(scope, receive, send)

    return middleware


@get("/a")
async def a() -> str:
    return "a"


@get("/b")
async def b() -> str:
    return "b"


@get("/c")
async def c() -> str:
    return "c"


app = Litestar([a, b, c], middleware=[counting], openapi_config=None, logging_config=None)


async def main():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://host") as client:
        for path in ("/a", "/a", "/b", "/c"):
            (await client.get(path)).raise_for_status()


asyncio.run(main())
used = sorted(each["requests"] for each in made if each["requests"])
print(f"litestar {version('litestar')}: three routes, four requests, counts of the instances: {used}")
raise SystemExit(0 if used == [1, 1, 2] else 1)
PYTHON
