#!/usr/bin/env bash
# A proxy that gives the headers of an httpx response to Starlette's StreamingResponse joins two cookies to one line.
# Expected: two Set-Cookie lines of the upstream are two lines for the client; this header alone must not be joined
# (RFC 9110, section 5.3).
# Seen: `Headers.items()` joins equal names by commas, and Starlette sends what `items()` gives. A client behind
# fastapi-proxy-lib has the first cookie only, so that a login has its session and no CSRF token. Two Retry-After lines
# become "3, 3".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'fastapi-proxy-lib==0.3.0' 'fastapi==0.165.0' 'starlette==1.10.0' 'httpx==0.28.1' \
  'uvicorn==0.54.0'
"$work/venv/bin/python" - <<'PYTHON'
import threading
import time
from importlib.metadata import version

import httpx
import uvicorn
from fastapi_proxy_lib.fastapi.app import reverse_http_app
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route


async def login(request):
    response = Response("welcome")
    response.set_cookie("session", "1")
    response.set_cookie("csrf", "2")
    return response


def serve(app):
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"


def cookies(url):
    with httpx.Client(timeout=20) as client:
        response = client.post(url)
        return len(response.headers.get_list("set-cookie")), sorted(client.cookies)


upstream = serve(Starlette(routes=[Route("/", login, methods=["POST"])]))
proxy = serve(reverse_http_app(client=httpx.AsyncClient(), base_url=upstream))
direct, behind = cookies(upstream), cookies(proxy)
print(f"fastapi-proxy-lib {version('fastapi-proxy-lib')}: (Set-Cookie lines, cookies): {direct}, behind it: {behind}")
as_stated = (direct, behind) == ((2, ["csrf", "session"]), (1, ["session"]))
raise SystemExit(0 if as_stated else "changed: two cookies are two lines")
PYTHON
