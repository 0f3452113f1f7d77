#!/usr/bin/env bash
# Spans that a collector redirects are delivered nowhere and count as exported.
# Expected: where a proxy in front of the collector answers http by a redirect to https, the exporter follows a 307 or
# 308, or reports a failure: what is redirected has not been delivered.
# Seen: no redirect is followed, and each status below 400 is SUCCESS: every span, metric and log is lost without a line in
# the log. (A 404 is FAILURE, with a line.)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'opentelemetry-exporter-otlp-proto-http==1.45.2' 'opentelemetry-sdk==1.45.2'
"$work/venv/bin/python" - <<'PYTHON'
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

requests, lines = [], []


class Lines(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())


class Handler(BaseHTTPRequestHandler):
    def respond(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        requests.append(self.path)
        redirect = self.path.strip("/")
        self.send_response(int(redirect) if redirect.isdigit() else 200)
        self.send_header("Location", "/collector")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = respond

    def log_message(self, *_):
        pass


logging.getLogger("opentelemetry").addHandler(Lines(logging.WARNING))
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
memory, tracers = InMemorySpanExporter(), TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(memory))
tracers.get_tracer("shop").start_span("order").end()
seen = {}
for status in (301, 307, 308, 404):
    exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{server.server_port}/{status}")
    requests.clear()
    result = exporter.export(memory.get_finished_spans())
    exporter.shutdown()
    seen[status] = (result.name, list(requests))
name = "opentelemetry-exporter-otlp-proto-http"
print(f"{name} {version(name)}: status: (result, requests): {seen}; lines: {lines}")
refused = "FAILURE", ["/404"]
as_stated = seen == {301: ("SUCCESS", ["/301"]), 307: ("SUCCESS", ["/307"]), 308: ("SUCCESS", ["/308"]), 404: refused}
as_stated = as_stated and len(lines) == 1
raise SystemExit(0 if as_stated else "changed: spans that were redirected are delivered, or a failure")
PYTHON
