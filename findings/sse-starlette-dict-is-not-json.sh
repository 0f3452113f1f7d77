#!/usr/bin/env bash
# sse-starlette sends the dict of an event as Python writes it.
# Expected: {"data": {"ok": True, "text": None}} leaves as JSON, as in FastAPI's own event streams, or is refused.
# Seen: "data: {'ok': True, 'text': None}", which no client parses; JSONServerSentEvent is the class that writes JSON.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'sse-starlette==3.7.0' 'starlette==1.10.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import json
from importlib.metadata import version

import httpx
from sse_starlette import EventSourceResponse, JSONServerSentEvent
from starlette.applications import Starlette
from starlette.routing import Route

DATA = {"ok": True, "text": None}


async def order(request):
    async def events():
        yield {"data": DATA}
        yield JSONServerSentEvent(DATA)

    return EventSourceResponse(events())


async def main():
    transport = httpx.ASGITransport(Starlette(routes=[Route("/", order)]))
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
        text = (await client.get("/")).text
    return [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]


def parses(text):
    try:
        return json.loads(text) == DATA
    except json.JSONDecodeError:
        return False


lines = asyncio.run(main())
print(f"sse-starlette {version('sse-starlette')}: sent for a dict: {lines[0]}; for JSONServerSentEvent: {lines[1]}")
raise SystemExit(0 if [parses(line) for line in lines] == [False, True] else "changed: the dict is sent as JSON")
PYTHON
