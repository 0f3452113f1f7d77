#!/usr/bin/env bash
# OpenTelemetry's instrumentation of requests records a call with its retries as one successful request.
# Expected: each request that is sent is a span of its own, the later ones with http.request.resend_count (semantic
# conventions of HTTP clients), so that two 503s are seen, and the server's three spans have three parents.
# Seen: one span and one measurement, 200, whose duration holds the waits as well; three requests carry one
# traceparent. An upstream that refuses two of three requests has no error in the client's telemetry.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'opentelemetry-instrumentation-requests==0.66b2' 'opentelemetry-sdk==1.45.2' \
  'requests==2.34.2' 'urllib3==2.8.0'
"$work/venv/bin/python" - <<'PYTHON'
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "http"

import requests
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

parents = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        parents.append(self.headers["traceparent"])
        self.send_response(503 if len(parents) < 3 else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
spans, reader, tracers = InMemorySpanExporter(), InMemoryMetricReader(), TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(spans))
RequestsInstrumentor().instrument(tracer_provider=tracers, meter_provider=MeterProvider([reader]))
with requests.Session() as session:
    session.mount("http://", HTTPAdapter(max_retries=Retry(3, status_forcelist=[503], backoff_factor=0.1)))
    session.get(f"http://127.0.0.1:{server.server_port}/", timeout=20).raise_for_status()
finished = spans.get_finished_spans()
recorded = [(span.attributes["http.response.status_code"], span.status.status_code.name) for span in finished]
[metric] = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
counted = sum(point.count for point in metric.data.data_points)
name = "opentelemetry-instrumentation-requests"
print(f"{name} {version(name)}: {len(parents)} requests with {len(set(parents))} traceparent")
print(f"spans: {recorded}, measurements: {counted}")
as_stated = (len(parents), len(set(parents)), recorded, counted) == (3, 1, [(200, "UNSET")], 1)
raise SystemExit(0 if as_stated else "changed: each request is a span")
PYTHON
