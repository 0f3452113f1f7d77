#!/usr/bin/env bash
# Litestar labels the JSON of an error text/plain where the handler returns text.
# Expected: {"status_code":429,"detail":"Too Many Requests"} is application/json, as it is for a handler that returns a
# dict.
# Seen: the error takes the media type of the handler, so that a client that looks at Content-Type does not parse it;
# the refusals of Litestar's own RateLimitMiddleware as well.
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
from litestar.exceptions import TooManyRequestsException


@get("/text")
async def text() -> str:
    raise TooManyRequestsException(headers={"Retry-After": "5"})


@get("/json")
async def json() -> dict[str, str]:
    raise TooManyRequestsException(headers={"Retry-After": "5"})


app = Litestar([text, json], openapi_config=None, logging_config=None)


async def main():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example") as client:
        responses = [await client.get(path) for path in ("/text", "/json")]
    return [(response.headers["content-type"].partition(";")[0], response.json()) for response in responses]


as_text, as_json = asyncio.run(main())
print(f"litestar {version('litestar')}: a handler that returns str: {as_text}; dict: {as_json}")
raise SystemExit(0 if as_text[0] == "text/plain" and as_json[0] == "application/json" else "changed: other media types")
PYTHON
