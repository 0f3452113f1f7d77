#!/usr/bin/env bash
# fastidempotent sends one of two Set-Cookie lines, and another one in the replay.
# Expected: the first response with a key has the lines of the app, and the replay has the same ones.
# Seen: the headers pass through a dict: the first response has the first cookie only, the replay the last one only.
# A client that logs in with a key has a session without its CSRF token, or the token without the session.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'fastidempotent==0.1.0' 'fastapi==0.165.0' 'starlette==1.10.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

import httpx
from fastapi import FastAPI, Response
from fastidempotent import IdempotencyMiddleware, MemoryBackend

app = FastAPI()
app.add_middleware(IdempotencyMiddleware, backend=MemoryBackend(ttl=60))


@app.post("/login")
async def login(response: Response):
    response.set_cookie("session", "1")
    response.set_cookie("csrf", "2")
    return {}


async def main():
    names = []
    for _ in range(2):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
            response = await client.post("/login", headers={"Idempotency-Key": "one"})
            names.append([line.partition("=")[0] for line in response.headers.get_list("set-cookie")])
    return names


names = asyncio.run(main())
print(f"fastidempotent {version('fastidempotent')}: first response {names[0]}, replay {names[1]}")
raise SystemExit(0 if names == [["session"], ["csrf"]] else "changed: the lines are those of the app")
PYTHON
