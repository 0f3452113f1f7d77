#!/usr/bin/env bash
# A request to a FastAPI app behind OpenTelemetry's ASGI middleware is two traces.
# Expected: one request has one span of kind SERVER, or two of one trace, and is counted once in
# http.server.request.duration.
# Seen: FastAPI records requests by itself now, wherever an SDK is set up. It leaves that to a middleware inside its
# own stack; one around the app, or the instrumentation of a Starlette app that mounts it, is not seen: two roots
# without a common trace, and two measurements. `FastAPI(telemetry={...})` turns its own off.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'fastapi==0.165.0' 'opentelemetry-instrumentation-asgi==0.66b2' \
  'opentelemetry-sdk==1.45.2' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import os
from importlib.metadata import version

os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "http"

import httpx
from fastapi import FastAPI
from opentelemetry import metrics, trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

spans, reader, tracers = InMemorySpanExporter(), InMemoryMetricReader(), TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(tracers)
metrics.set_meter_provider(MeterProvider([reader]))
app = FastAPI()


@app.post("/orders")
async def order():
    return "ordered"


async def main():
    around = OpenTelemetryMiddleware(app, exclude_spans=["send", "receive"])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(around), base_url="http://app") as client:
        (await client.post("/orders")).raise_for_status()


asyncio.run(main())
server = [span for span in spans.get_finished_spans() if span.kind is trace.SpanKind.SERVER]
traces = {span.context.trace_id for span in server}
scopes = reader.get_metrics_data().resource_metrics[0].scope_metrics
durations = [metric for scope in scopes for metric in scope.metrics if metric.name == "http.server.request.duration"]
counted = sum(point.count for metric in durations for point in metric.data.data_points)
print({name: version(name) for name in ("fastapi", "opentelemetry-instrumentation-asgi")})
print(f"{len(server)} SERVER spans by {sorted(span.instrumentation_scope.name for span in server)}")
print(f"traces: {len(traces)}, without a parent: {sum(span.parent is None for span in server)}, counted: {counted}")
raise SystemExit(0 if (len(server), len(traces), counted) == (2, 2, 2) else "changed: one request is one trace")
PYTHON
