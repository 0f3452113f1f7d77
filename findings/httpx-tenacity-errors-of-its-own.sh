#!/usr/bin/env bash
# httpx-tenacity replaces the last 503 of a call, and a 429 whose Retry-After is a date, by errors that httpx does not
# know.
# Expected: the last attempt's response is returned, as by a client without retries; a Retry-After is seconds or a date
# (RFC 9110, section 10.2.3).
# Seen: a 503 after the last attempt is tenacity.RetryError, and a date is ValueError from float(): neither is an
# httpx.HTTPError, which callers catch, and status, message and Retry-After are lost. A POST is repeated like a GET.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'httpx-tenacity==0.2.0' 'tenacity==9.2.1' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

import httpx
from httpx_tenacity import AsyncTenaciousTransport

DATE = "Wed, 02 Dec 2026 07:28:00 GMT"


async def seen(status, headers):
    """The type of what a POST gives to its caller, and how many requests the server has."""
    requests = []

    def respond(request):
        requests.append(request)
        return httpx.Response(status, headers=headers, json={"error": "busy"})

    transport = AsyncTenaciousTransport.create(max_attempts=2, transport=httpx.MockTransport(respond))
    async with httpx.AsyncClient(transport=transport) as client:
        try:
            result = await client.post("http://upstream/orders", json={})
        except httpx.HTTPError:
            raise
        except Exception as error:
            result = error
    return type(result).__name__, len(requests)


busy, refused = asyncio.run(seen(503, {"Retry-After": "1"})), asyncio.run(seen(429, {"Retry-After": DATE}))
print(f"httpx-tenacity {version('httpx-tenacity')}: 503: {busy}; 429 with a date: {refused}")
as_stated = (busy, refused) == (("RetryError", 2), ("ValueError", 1))
raise SystemExit(0 if as_stated else "changed: the caller gets the response")
PYTHON
