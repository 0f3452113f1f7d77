#!/usr/bin/env bash
# Falcon sends the error of a client that accepts event streams without a body, labelled application/json.
# Expected: a request with Accept: text/event-stream, as each EventSource sends it, gets a body that says what went
# wrong, or no Content-Type for a body that is empty.
# Seen: Content-Length: 0 and Content-Type: application/json: a client that parses the body by its type raises.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'falcon==4.4.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio

import falcon
import httpx
from falcon.asgi import App


class Events:
    async def on_get(self, request, response):
        raise falcon.HTTPTooManyRequests(retry_after=5)


async def error(accept):
    app = App()
    app.add_route("/", Events())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example") as client:
        response = await client.get("/", headers={"Accept": accept})
    return response.status_code, response.headers["content-type"], response.text


any_type, stream = (asyncio.run(error(accept)) for accept in ("*/*", "text/event-stream"))
print(f"falcon {falcon.__version__}: Accept */*: {any_type}; text/event-stream: {stream}")
raise SystemExit(0 if any_type[2] and stream == (429, "application/json", "") else "changed: the error has a body")
PYTHON
