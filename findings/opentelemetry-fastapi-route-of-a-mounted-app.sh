#!/usr/bin/env bash
# OpenTelemetry's instrumentation of FastAPI takes the path of a mount for the route of all that is mounted there.
# Expected: http.route is the route that matched (/v1/models/{name}), the attribute that durations are grouped by.
# Seen: every route of an app that is mounted at /v1 has the span "GET /v1" and one http.route, /v1: a slow route and a
# failing one cannot be told apart in the metrics. An APIRouter with the prefix /v1 is reported as expected.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'opentelemetry-instrumentation-fastapi==0.66b2' 'opentelemetry-sdk==1.45.2' \
  'fastapi==0.165.0' 'starlette==1.10.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import os
from importlib.metadata import version

os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "http"

import httpx
from fastapi import APIRouter, FastAPI
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider


def with_routes(host, prefix=""):
    @host.get(prefix + "/models/{name}")
    async def model(name):
        return {}

    @host.get(prefix + "/orders")
    async def orders():
        return []

    return host


async def routes(app):
    """The values of http.route of the duration's data points."""
    reader = InMemoryMetricReader()
    FastAPIInstrumentor.instrument_app(app, tracer_provider=TracerProvider(), meter_provider=MeterProvider([reader]))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example") as client:
        for path in ("/v1/models/cat", "/v1/orders"):
            (await client.get(path)).raise_for_status()
    metrics = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    [duration] = [metric for metric in metrics if metric.name == "http.server.request.duration"]
    return sorted(point.attributes.get("http.route") for point in duration.data.data_points)


mounting, including = FastAPI(), FastAPI()
mounting.mount("/v1", with_routes(FastAPI()))
including.include_router(with_routes(APIRouter(prefix="/v1")))
mounted, included = asyncio.run(routes(mounting)), asyncio.run(routes(including))
name = "opentelemetry-instrumentation-fastapi"
print(f"{name} {version(name)}: mounted: {mounted}; included: {included}")
as_stated = (mounted, included) == (["/v1"], ["/v1/models/{name}", "/v1/orders"])
raise SystemExit(0 if as_stated else "changed: a mounted app has its routes")
PYTHON
