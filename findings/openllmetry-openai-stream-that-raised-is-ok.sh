#!/usr/bin/env bash
# OpenLLMetry's span of a stream that raised says OK.
# Expected: the stream ends with an error event, openai raises APIError to the caller, and the span has status ERROR and
# the exception, as the span of a 429 has and as OpenInference's span of the same stream has.
# Seen: status OK without an exception, and the half of the text that came as the output: an alert on failed spans never
# sees an upstream that breaks off.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'opentelemetry-instrumentation-openai==0.62.4' \
  'openinference-instrumentation-openai==0.1.66' 'opentelemetry-sdk==1.45.1' 'openai==3.57.0'
"$work/venv/bin/python" - <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import openai
from openinference.instrumentation.openai import OpenAIInstrumentor as OpenInference
from opentelemetry.instrumentation.openai import OpenAIInstrumentor as OpenLLMetry
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

CHOICE = {"index": 0, "delta": {"role": "assistant", "content": "half of "}, "finish_reason": None}
CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o", "choices": [CHOICE]}
ERROR = {"error": {"message": "overloaded", "type": "server_error", "code": "overloaded"}}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for event in (CHUNK, ERROR):
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = openai.OpenAI(api_key="key", base_url=f"http://127.0.0.1:{server.server_port}/v1")


def span_of_a_stream(instrumentor):
    exporter, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor.instrument(tracer_provider=tracers)
    messages = [{"role": "user", "content": "hello"}]
    raised = None
    try:
        for _ in client.chat.completions.create(model="gpt-4o", messages=messages, stream=True):
            pass
    except openai.APIError as error:
        raised = type(error).__name__
    instrumentor.uninstrument()
    (span,) = exporter.get_finished_spans()
    return raised, span.status.status_code.name, "exception" in {event.name for event in span.events}


seen = {kind.__module__.split(".")[0]: span_of_a_stream(kind()) for kind in (OpenLLMetry, OpenInference)}
names = "opentelemetry-instrumentation-openai", "openinference-instrumentation-openai"
print({name: version(name) for name in names}, "raised, status, has the exception:", seen)
expected = {"opentelemetry": ("APIError", "OK", False), "openinference": ("APIError", "ERROR", True)}
raise SystemExit(0 if seen == expected else "changed: a stream that raised is an error")
PYTHON
