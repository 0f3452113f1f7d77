#!/usr/bin/env bash
# OpenTelemetry's exporter for Prometheus writes label values under the names of other labels.
# Expected: a counter that two meters share (two libraries that follow the semantic conventions) has each value under
# its name.
# Seen: the data points of the second meter get the label names of the first one, by position: where the attributes
# differ, a status of "500" is exported as route="500", and the scope is gone.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q \
  'opentelemetry-exporter-prometheus==0.66b2' 'opentelemetry-sdk==1.45.2' 'prometheus_client==0.26.0'
"$work/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY, generate_latest

provider = MeterProvider([PrometheusMetricReader()])
one, two = (provider.get_meter(name).create_counter("shop.orders") for name in ("one", "two"))
one.add(1, {"route": "/orders"})
two.add(5, {"status": "500"})
lines = [line for line in generate_latest(REGISTRY).decode().splitlines() if line.startswith("shop_orders_total{")]
print(f"opentelemetry-exporter-prometheus {version('opentelemetry-exporter-prometheus')}:", *lines, sep="\n")
[second] = [line for line in lines if line.endswith(" 5.0")]
changed = "changed: the status is exported as a status"
raise SystemExit(0 if 'status="500"' not in second and '="500"' in second else changed)
PYTHON
