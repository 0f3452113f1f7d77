"""Every query of the dashboard and of the alerts finds what OpenTelemetry's Prometheus exporter shows."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import yaml
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY

import flexmw
from flexmw.envelope import Envelope
from flexmw.idempotency import Idempotency
from flexmw.kit.exchange import Exchange
from flexmw.ratelimit import RateLimit
from flexmw.retry import Retry
from flexmw.tagging import Tagging
from flexmw.testing import FakeClock, HostileServer
from tests.tagging.hosts import call, starlette_app

HERE = Path(__file__).parents[2] / "examples" / "observability"
Sample = tuple[str, dict[str, str]]


def expressions() -> Iterator[tuple[str, str]]:
    for panel in json.loads((HERE / "dashboard.json").read_text("utf-8"))["panels"]:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for group in yaml.safe_load((HERE / "alerts.yml").read_text("utf-8"))["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


EXPRESSIONS = dict(expressions())


@pytest.fixture(scope="module")
def samples() -> Generator[list[Sample]]:
    """What the exporter shows after some of everything has happened."""
    reader = PrometheusMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    tagging = Tagging(meter_provider=provider)
    anyio.run(_serve, tagging)
    _call(tagging)
    yield [(sample.name, sample.labels) for family in REGISTRY.collect() for sample in family.samples]
    provider.shutdown()


async def _serve(tagging: Tagging) -> None:
    app = flexmw.wrap_app(starlette_app(), tagging, Envelope(), RateLimit("4/minute"), Idempotency())
    for path in ("/ok", "/missing", "/broken", "/upstream", "/ok"):
        await call(app, path)
    keyed = flexmw.wrap_app(starlette_app(), tagging, Envelope(), Idempotency())
    for _ in range(2):
        await call(keyed, "/ok", method="POST", headers=(("idempotency-key", '"key"'), ("authorization", "Bearer k")))

    async def without_store(scope: Any, receive: Any, send: Any) -> None:
        Exchange.of(scope).facts["flexmw.rate_limiting.result"] = "storage_error_allowed"
        await starlette_app()(scope, receive, send)

    await call(tagging.asgi(without_store), "/ok")


def _call(tagging: Tagging) -> None:
    clock = FakeClock()
    poor = Retry(clock=clock, budget_ratio=0.0, budget_per_second=0.0)
    for retry, script in ((Retry(clock=clock), ["503", "200", "500"]), (poor, ["503", "503"])):
        transport = flexmw.httpx.Transport(tagging, retry, clock=clock)
        with HostileServer(script, then="503") as server, httpx.Client(transport=transport) as client:
            for method in ("GET", "POST", "GET"):
                with suppress(httpx.TransportError):
                    client.request(method, server.url)


_SELECTOR = re.compile(r"((?:flexmw|http)_[a-z_]+)(?:\{([^}]*)\})?\[")
_MATCHER = re.compile(r'([a-z_]+)(=~|!=|=)"([^"]*)"')
_BY = re.compile(r"by \(([^)]*)\)")


def _holds(value: str, operator: str, wanted: str) -> bool:
    return {"=": value == wanted, "!=": value != wanted, "=~": bool(re.fullmatch(wanted, value))}[operator]


@pytest.mark.parametrize("title", EXPRESSIONS)
def test_a_query_finds_series_that_have_its_labels(title: str, samples: list[Sample]) -> None:
    expression = EXPRESSIONS[title]
    selectors = _SELECTOR.findall(expression)
    assert selectors, expression
    grouped = {label.strip() for labels in _BY.findall(expression) for label in labels.split(",")}
    for metric, matchers in selectors:
        wanted = _MATCHER.findall(matchers)
        assert len(wanted) == len([each for each in matchers.split(",") if each])
        found = [
            labels
            for name, labels in samples
            if name == metric and all(_holds(labels.get(label, ""), how, value) for label, how, value in wanted)
        ]
        assert found, f"{metric} with {wanted}: no series; there are {sorted({name for name, _ in samples})}"
        assert any(grouped <= labels.keys() for labels in found), f"{grouped} of {found[0]}"
