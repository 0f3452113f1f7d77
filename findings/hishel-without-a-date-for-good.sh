#!/usr/bin/env bash
# hishel, told to follow the RFC, serves a response without a Date for good, and overlooks Age.
# Expected: with `rfc=True`, `max-age=1` is asked for again after a second (a recipient takes the time of receipt for a
# Date that is missing: RFC 9110, section 6.6.1), and a response with `max-age=600` that comes with Age 600 from a CDN
# is stale (RFC 9111, section 4.2.3).
# Seen: what has no Date, as behind `uvicorn --no-date-header` or httpx's ASGITransport, has the age 0 for good, and the
# Age of a response is not read: it is fresh for its whole max-age once more.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'hishel[httpx]==2.0.0' 'httpx==0.28.1'
cd "$work"  # hishel's storage is a file in the working directory
"$work/venv/bin/python" - <<'PYTHON'
import time
from email.utils import formatdate
from importlib.metadata import version

import httpx
from hishel.httpx import CacheTransport

sent = {"/no-date": 0, "/date": 0, "/aged": 0, "/fresh": 0}


def answer(request):
    path = request.url.path
    sent[path] += 1
    headers = {"Cache-Control": "max-age=600" if path in ("/aged", "/fresh") else "max-age=1"}
    if path != "/no-date":
        headers["Date"] = formatdate(usegmt=True)
    if path == "/aged":
        headers["Age"] = "600"
    return httpx.Response(200, headers=headers, text="ok")


transport = CacheTransport(httpx.MockTransport(answer), rfc=True)
with httpx.Client(transport=transport, base_url="http://shop.example") as client:
    for _ in range(2):
        for path in sent:
            client.get(path)
        time.sleep(2.5)
print(f"hishel {version('hishel')}: of two requests, 2.5 seconds apart, reach the server: {sent}")
expected = {"/no-date": 1, "/date": 2, "/aged": 1, "/fresh": 1}
raise SystemExit(0 if sent == expected else "changed: a response grows old without a Date and with an Age")
PYTHON
