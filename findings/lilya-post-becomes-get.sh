#!/usr/bin/env bash
# Lilya turns a POST to a path with a slash too many into a GET.
# Expected: the redirect to the path without the slash keeps the method and the body: 307, as Starlette sends it.
# Seen: a 303, after which every client sends GET without the body (RFC 9110 section 15.4.4). Where the route has a GET
# as well, nothing fails: the client gets a 200 with a list, and the order that it placed does not exist.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'lilya==0.29.0' 'starlette==1.10.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import logging
from importlib.metadata import version

import httpx
import lilya.apps
import lilya.requests
import lilya.responses
import lilya.routing
import starlette.applications
import starlette.responses
import starlette.routing

logging.disable(logging.CRITICAL)


async def lilya_orders(request: lilya.requests.Request):
    return lilya.responses.JSONResponse({"method": request.method})


async def starlette_orders(request):
    return starlette.responses.JSONResponse({"method": request.method})


METHODS = ["GET", "POST"]
APPS = {
    "lilya": lilya.apps.Lilya(routes=[lilya.routing.Path("/orders", lilya_orders, methods=METHODS)]),
    "starlette": starlette.applications.Starlette(
        routes=[starlette.routing.Route("/orders", starlette_orders, methods=METHODS)]
    ),
}


async def post(app):
    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://shop.example", follow_redirects=True
    )
    async with client:
        response = await client.post("/orders/", json={"item": 1})
    return [each.status_code for each in response.history], response.status_code, response.json()["method"]


seen = {name: asyncio.run(post(app)) for name, app in APPS.items()}
print({f"{name} {version(name)}": result for name, result in seen.items()})
expected = {"lilya": ([303], 200, "GET"), "starlette": ([307], 200, "POST")}
raise SystemExit(0 if seen == expected else "changed: a POST stays a POST")
PYTHON
