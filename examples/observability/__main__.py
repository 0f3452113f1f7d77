"""`python -m examples.observability`: the gateway, a neighbour, and their metrics at /metrics for Prometheus.

Every option but --metrics-port is the gateway's own: see `python -m examples.gateway --help`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from opentelemetry import metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import start_http_server

from examples.gateway import __main__ as gateway
from examples.gateway.processes import port_number
from examples.observability import neighbour

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m examples.observability", description=__doc__, add_help=False)
    parser.add_argument("--metrics-port", type=port_number, default=9464, help="9464 unless given; 0 takes a free one")
    options, rest = parser.parse_known_args(arguments)
    metrics.set_meter_provider(MeterProvider([PrometheusMetricReader()]))
    server, _ = start_http_server(options.metrics_port, "127.0.0.1")
    neighbour.start(gateway.arguments_parser().parse_args(rest).storage)
    print(f"metrics at http://127.0.0.1:{server.server_port}/metrics", flush=True)
    gateway.main(rest)


if __name__ == "__main__":
    main()
