#!/usr/bin/env bash
# OpenTelemetry's OTLP exporter over HTTP reports spans that nobody has taken as exported.
# Expected: a collector that rejects spans says so in the `partial_success` of its 200, which the exporter logs, as the
# protocol asks; a redirection is followed or is a failure.
# Seen: with all spans rejected, and with a 301 that is not followed, `export` returns SUCCESS, and nothing is logged.
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
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace import TracerProvider

REJECTED = ExportTraceServiceResponse()
REJECTED.partial_success.rejected_spans = 1
REJECTED.partial_success.error_message = "the quota of the tenant is used up"
requests, lines = [], []


class Collector(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        requests.append(self.path)
        moved = self.path == "/moved/v1/traces"
        body = b"" if moved else REJECTED.SerializeToString()
        self.send_response(301 if moved else 200)
        if moved:
            self.send_header("Location", "/v1/traces")
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Lines(logging.Handler):
    def emit(self, record):
        if record.name.startswith("opentelemetry"):
            lines.append(record.getMessage())


logging.getLogger().addHandler(Lines())
logging.getLogger().setLevel(logging.INFO)
server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
threading.Thread(target=server.serve_forever, daemon=True).start()
span = TracerProvider().get_tracer("shop").start_span("POST /chat")
span.end()
results = {}
for name, path in (("rejected", "/v1/traces"), ("moved", "/moved/v1/traces")):
    exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{server.server_port}{path}", timeout=10)
    results[name] = exporter.export([span]).name
    exporter.shutdown()
name = "opentelemetry-exporter-otlp-proto-http"
print(f"{name} {version(name)}: {results}, requests {requests}, log lines {lines}")
as_stated = results == {"rejected": "SUCCESS", "moved": "SUCCESS"}
as_stated = as_stated and requests == ["/v1/traces", "/moved/v1/traces"] and not lines
raise SystemExit(0 if as_stated else "changed: spans that are not taken are reported")
PYTHON
