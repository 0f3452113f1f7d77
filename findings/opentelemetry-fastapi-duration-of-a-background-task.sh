#!/usr/bin/env bash
# OpenTelemetry's instrumentation of FastAPI counts a background task as a part of the duration of its request.
# Expected: the span and the duration of one request end with its response.
# Seen: the span does, and http.server.request.duration does not: a POST whose client has its response at once, and
# whose background task takes two seconds, is a span of milliseconds and a measurement of two seconds. An alert on
# latency counts the mails that are sent later, and no trace has a slow request.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'opentelemetry-instrumentation-fastapi==0.66b2' 'opentelemetry-sdk==1.45.2' \
  'fastapi==0.165.0' 'uvicorn==0.54.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import os
import threading
import time
from importlib.metadata import version

os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "http"

import httpx
import uvicorn
from fastapi import BackgroundTasks, FastAPI
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

app = FastAPI()


@app.post("/orders")
async def order(later: BackgroundTasks):
    later.add_task(asyncio.sleep, 2)
    return "ordered"


spans, reader, tracers = InMemorySpanExporter(), InMemoryMetricReader(), TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(spans))
FastAPIInstrumentor.instrument_app(
    app, tracer_provider=tracers, meter_provider=MeterProvider([reader]), exclude_spans=["send", "receive"]
)
server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
thread = threading.Thread(target=server.run, daemon=True)
thread.start()
while not server.started:
    time.sleep(0.01)
port = server.servers[0].sockets[0].getsockname()[1]
begin = time.monotonic()
httpx.post(f"http://127.0.0.1:{port}/orders", timeout=20).raise_for_status()
client = time.monotonic() - begin
server.should_exit = True
thread.join(20)
[span] = [span for span in spans.get_finished_spans() if span.kind is SpanKind.SERVER]
in_span = (span.end_time - span.start_time) / 1e9
metrics = {metric.name: metric for metric in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics}
in_metric = metrics["http.server.request.duration"].data.data_points[0].sum
name = "opentelemetry-instrumentation-fastapi"
print(f"{name} {version(name)}: client {client:.2f} s, span {in_span:.2f} s, metric {in_metric:.2f} s")
raise SystemExit(0 if client < 1.5 and in_span < 1.5 and in_metric >= 2 else "changed: span and metric agree")
PYTHON
