#!/usr/bin/env bash
# BlackSheep's router takes a method that a path does not have for a path that does not exist.
# Expected: HEAD on a route of GET is served (RFC 9110 section 9.3.2); POST on it is a 405 with Allow.
# Seen: both are a 404 "Resource not found", so that a health check by HEAD fails, and a wrong method looks like a
# wrong URL.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'blacksheep==2.6.4' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

import httpx
from blacksheep import Application
from blacksheep.server.routing import Router

router = Router()
app = Application(router=router)


@router.get("/orders")
async def orders():
    return "none"


async def main():
    await app.start()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example") as client:
        return {method: (await client.request(method, "/orders")).status_code for method in ("GET", "HEAD", "POST")}


seen = asyncio.run(main())
print(f"blacksheep {version('blacksheep')}: {seen}")
raise SystemExit(0 if seen == {"GET": 200, "HEAD": 404, "POST": 404} else "changed: other statuses")
PYTHON
