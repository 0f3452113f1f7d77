#!/usr/bin/env bash
# OpenTelemetry's instrumentation of httpx takes a response whose body breaks off for a success, and its body for no
# time.
# Expected: the span and the duration of a call that is read whole cover the body; a call that raises is an error.
# Seen: the span ends with the head. A body that takes a second adds nothing to the duration, and a body that is cut
# leaves the status of the span unset and the measurement without error.type, while the caller gets
# RemoteProtocolError.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q \
  'opentelemetry-instrumentation-httpx==0.66b2' 'opentelemetry-sdk==1.45.2' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "http"

import httpx
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"ab")
        time.sleep(3)
        if self.path == "/slow":
            self.wfile.write(b"cd")

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
spans, reader, tracers = InMemorySpanExporter(), InMemoryMetricReader(), TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(spans))
raised = None
with httpx.Client(base_url=f"http://127.0.0.1:{server.server_port}", timeout=20) as client:
    HTTPXClientInstrumentor.instrument_client(client, tracers, MeterProvider([reader]))
    client.get("/slow")
    try:
        client.get("/cut")
    except httpx.RemoteProtocolError as error:
        raised = type(error).__name__
seen = [(span.status.status_code.name, (span.end_time - span.start_time) / 1e9) for span in spans.get_finished_spans()]
[metric] = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
points = [(point.count, round(point.sum, 2), "error.type" in point.attributes) for point in metric.data.data_points]
print(f"opentelemetry-instrumentation-httpx {version('opentelemetry-instrumentation-httpx')}: caller: 3 s, {raised};")
print(f"spans (status, seconds): {seen}; {metric.name} (count, sum, error.type): {points}")
success = all(status == "UNSET" and seconds < 2 for status, seconds in seen)
one_point = len(points) == 1 and points[0][0] == 2 and not points[0][2]
raise SystemExit(0 if raised and len(seen) == 2 and success and one_point else "changed: the body is part of the call")
PYTHON
