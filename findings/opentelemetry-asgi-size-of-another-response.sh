#!/usr/bin/env bash
# OpenTelemetry's instrumentation of ASGI gives a response without Content-Length the size of the one before it.
# Expected: the histogram of response sizes counts the responses whose size is known.
# Seen: the size is kept on the middleware, not with the request: a download of 50000 bytes and three streams of 2 bytes
# are four responses of 50000 bytes. Under load the size of one request is counted for another one. FastAPI's and
# Starlette's instrumentations put the same middleware into an app.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'opentelemetry-instrumentation-asgi==0.66b2' 'opentelemetry-sdk==1.45.2' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

import httpx
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader


async def app(scope, receive, send):
    headers, body = [], b"hi"
    if scope["path"] == "/download":
        headers, body = [(b"content-length", b"50000")], b"a" * 50000
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def sizes(*paths):
    """The number and the sum of the sizes that are recorded for these requests."""
    reader = InMemoryMetricReader()
    traced = OpenTelemetryMiddleware(app, meter_provider=MeterProvider([reader]))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(traced), base_url="http://shop.example") as client:
        for path in paths:
            await client.get(path)
    scopes = [scope for resource in reader.get_metrics_data().resource_metrics for scope in resource.scope_metrics]
    metrics = [metric for scope in scopes for metric in scope.metrics if metric.name == "http.server.response.size"]
    return [(point.count, point.sum) for metric in metrics for point in metric.data.data_points]


async def main():
    return await sizes("/stream"), await sizes("/download", "/stream", "/stream", "/stream")


stream, mixed = asyncio.run(main())
name = "opentelemetry-instrumentation-asgi"
print(f"{name} {version(name)}: (count, sum) of a stream: {stream}; of a download and three streams: {mixed}")
raise SystemExit(0 if (stream, mixed) == ([], [(4, 200_000)]) else "changed: a size is that of its own response")
PYTHON
