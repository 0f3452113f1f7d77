#!/usr/bin/env bash
# prometheus-fastapi-instrumentator counts a stream that crashed as a success.
# Expected: an exception is an error of the request at whatever point it is raised, and has a label or a metric.
# Seen: a request that crashes before its head is counted as 5xx, one whose stream crashes as 2xx. Nothing else differs
# from a whole stream, so that an alert on the share of 5xx never sees a model that dies in mid-sentence.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'prometheus-fastapi-instrumentator==8.1.0' 'prometheus_client==0.26.0' \
  'fastapi==0.165.0' 'starlette==1.10.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

import httpx
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from prometheus_client import CollectorRegistry
from prometheus_fastapi_instrumentator import Instrumentator

registry, app = CollectorRegistry(), FastAPI()
Instrumentator(registry=registry).instrument(app)


async def tokens(cut):
    yield "data: 1\n\n"
    if cut:
        raise ConnectionError("the model died")
    yield "data: [DONE]\n\n"


@app.post("/{kind}")
async def chat(kind: str):
    if kind == "early":
        raise ConnectionError("the model died")
    return StreamingResponse(tokens(kind == "cut"), media_type="text/event-stream")


def labels():
    """Every sample of every metric that is not a time or a sum, without the two of a metric's creation."""
    return {
        (sample.name, sample.labels.get("status"), sample.value)
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    }


async def main():
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
        for kind in ("early", "cut", "whole"):
            await client.post(f"/{kind}")


asyncio.run(main())
name = "prometheus-fastapi-instrumentator"
print(f"{name} {version(name)}: one crash before the head, one in the stream, one whole stream: {sorted(labels())}")
expected = {("http_requests_total", "5xx", 1.0), ("http_requests_total", "2xx", 2.0)}
raise SystemExit(0 if labels() == expected else "changed: a crashed stream is told from a whole one")
PYTHON
