#!/usr/bin/env bash
# ichido stores the refusal of a busy server as the response of a key.
# Expected: a 503 with Retry-After, or a 429, says that the request was not executed: the repetition that it asks for is.
# Seen: whoever obeys gets the stored 503 again, with its Retry-After, for the 24 hours of the key.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'ichido==0.1.0' 'fakeredis==2.41.0' 'redis==8.1.0' 'starlette==1.10.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

import fakeredis
import httpx
from ichido import IchidoMiddleware, RedisIdempotencyStore
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

busy = {429: 1, 503: 1}
executions = []


async def pay(request):
    refusal = int(request.path_params["refusal"])
    if busy[refusal]:
        busy[refusal] -= 1
        return JSONResponse({"error": "busy"}, refusal, headers={"Retry-After": "1"})
    executions.append(refusal)
    return JSONResponse({"paid": True})


async def main():
    store = RedisIdempotencyStore(fakeredis.FakeAsyncRedis(decode_responses=True))
    app = IchidoMiddleware(Starlette(routes=[Route("/pay/{refusal}", pay, methods=["POST"])]), store=store)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example") as client:
        seen = {}
        for refusal in busy:
            responses = [
                await client.post(f"/pay/{refusal}", headers={"Idempotency-Key": f"key-{refusal}"}) for _ in range(3)
            ]
            seen[refusal] = [(response.status_code, response.headers.get("retry-after")) for response in responses]
        return seen


seen = asyncio.run(main())
print(f"ichido {version('ichido')}: {seen}, executions {executions}")
as_stated = seen == {status: [(status, "1")] * 3 for status in busy} and not executions
raise SystemExit(0 if as_stated else "changed: a refusal is not stored")
PYTHON
