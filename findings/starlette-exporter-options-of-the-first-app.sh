#!/usr/bin/env bash
# The second app of a process has the labels and the buckets of the first one in starlette-exporter.
# Expected: each PrometheusMiddleware has its own options, or one that cannot have them says so when it is made.
# Seen: the metrics are kept on the class by their prefix: the tenant of the second app is exported as the region of the
# first, its buckets have no effect, and an app with one label more or less answers each request with a 500 without having
# been called. `prefix` keeps them apart; nothing asks for it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'starlette-exporter==0.24.0' 'starlette==1.10.0' 'prometheus-client==0.25.0' 'httpx==0.28.1'
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

import httpx
from prometheus_client import REGISTRY
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette_exporter import PrometheusMiddleware

called = []


def make(name, **options):
    async def order(request):
        called.append(name)
        return PlainTextResponse("ordered")

    app = Starlette(routes=[Route("/orders", order, methods=["POST"])])
    app.add_middleware(PrometheusMiddleware, app_name=name, **options)
    return app


async def post(app):
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
        return (await client.post("/orders")).status_code


async def main():
    first = make("first", labels={"region": "eu"}, buckets=(1, 10))
    second = make("second", labels={"tenant": "acme"}, buckets=(0.1, 0.2))
    return [await post(app) for app in (first, second, make("third"))]


statuses = asyncio.run(main())
samples = [sample for family in REGISTRY.collect() for sample in family.samples if sample.labels.get("app_name") == "second"]
labels = {(name, value) for sample in samples for name, value in sample.labels.items() if name in ("region", "tenant")}
buckets = [sample.labels["le"] for sample in samples if sample.name.endswith("duration_seconds_bucket")]
print(f"starlette-exporter {version('starlette-exporter')}: statuses of three apps {statuses}, called {called}")
print(f"the second app: {labels}, buckets {buckets}")
as_stated = statuses == [200, 200, 500] and called == ["first", "second"]
as_stated = as_stated and labels == {("region", "acme")} and buckets == ["1.0", "10.0", "+Inf"]
raise SystemExit(0 if as_stated else "changed: each app has its own options")
PYTHON
