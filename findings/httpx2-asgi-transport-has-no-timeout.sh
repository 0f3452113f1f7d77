#!/usr/bin/env bash
# ASGITransport of httpx and httpx2 ignores timeouts, so that no test against an app in the same process meets one.
# Expected: with timeout=0.2, an app that needs a second makes the call raise ReadTimeout, as over a socket.
# Seen: the call waits for the app and returns its 200.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'httpx==0.28.1' 'httpx2==2.16.2'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

import httpx
import httpx2


async def app(scope, receive, send):
    await asyncio.sleep(1)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


async def outcome(library):
    transport = library.ASGITransport(app)
    async with library.AsyncClient(transport=transport, base_url="http://shop.example", timeout=0.2) as client:
        try:
            return (await client.get("/")).status_code
        except library.TimeoutException as error:
            return type(error).__name__


seen = {f"{each.__name__} {version(each.__name__)}": asyncio.run(outcome(each)) for each in (httpx, httpx2)}
print(f"timeout 0.2, an app that takes a second: {seen}")
raise SystemExit(0 if set(seen.values()) == {200} else "changed: a timeout is raised")
PYTHON
