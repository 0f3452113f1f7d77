#!/usr/bin/env bash
# OpenTelemetry's instrumentation of FastAPI makes a span for each event of a stream.
# Expected: one span for one request, whose end is the end of the stream.
# Seen: each message that the app sends or receives is a span of its own. A response of 500 tokens is 502 spans named
# "POST /chat http send" beside the one of the request; `exclude_spans=["send", "receive"]` prevents them.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'opentelemetry-instrumentation-fastapi==0.66b2' 'opentelemetry-sdk==1.45.2' \
  'fastapi==0.165.0' 'starlette==1.10.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from collections import Counter
from importlib.metadata import version

import httpx
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


async def spans(**options):
    exporter, tracers, app = InMemorySpanExporter(), TracerProvider(), FastAPI()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))

    @app.post("/chat")
    async def chat():
        return StreamingResponse((f"data: {n}\n\n" for n in range(500)), media_type="text/event-stream")

    FastAPIInstrumentor.instrument_app(app, tracer_provider=tracers, **options)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example") as client:
        await client.post("/chat")
    return Counter(span.name for span in exporter.get_finished_spans())


by_default, excluded = asyncio.run(spans()), asyncio.run(spans(exclude_spans=["send", "receive"]))
name = "opentelemetry-instrumentation-fastapi"
print(f"{name} {version(name)}: {dict(by_default)}; with exclude_spans: {dict(excluded)}")
as_stated = by_default["POST /chat http send"] >= 500 and excluded == {"POST /chat": 1}
raise SystemExit(0 if as_stated else "changed: an event is no span")
PYTHON
