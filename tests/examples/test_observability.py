"""Every query of the dashboard and of the alerts finds what the gateway under load shows to Prometheus."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import anyio
import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from examples.observability.panels import FILE, PANELS, dashboard
from examples.observability.picture import Series, draw
from flexmw.kit.semconv import METRICS
from tests.examples.watched import EXPRESSIONS, load, watched
from tests.servers import Child
from tests.waiting import LONGEST_WAIT

Sample = tuple[str, dict[str, str]]


@pytest.fixture(scope="module")
def samples(redis_server: Child) -> list[Sample]:
    """What the exporter shows after some of everything has happened."""
    with watched(redis_server) as gateway:
        anyio.run(load, gateway)
        text = httpx2.get(gateway.metrics, timeout=LONGEST_WAIT).raise_for_status().text
    return [(each.name, each.labels) for family in text_string_to_metric_families(text) for each in family.samples]


_GAUGES = r"flexmw_rate_limiting_slots|flexmw_rate_limiting_hot_callers"
_SELECTOR = re.compile(rf"\b({_GAUGES}|flexmw_[a-z_]+_(?:total|bucket|count|sum))\b(?:\{{([^}}]*)\}})?")
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


def test_the_dashboard_is_what_its_table_says() -> None:
    assert json.loads(FILE.read_text("utf-8")) == dashboard()


def test_every_metric_of_flexmw_is_in_a_panel_or_in_an_alert() -> None:
    queries = " ".join(EXPRESSIONS.values())
    names = {name.replace(".", "_") for name in METRICS if name.startswith("flexmw.")}
    # A credential that changed is a line of the log.
    assert {name for name in names if name not in queries} == {"flexmw_idempotency_changed_credentials"}


def test_a_picture_shows_each_panel_with_its_series() -> None:
    charts = [(panel, [Series(f"<{panel.title}>", [(0.0, 1.0), (60.0, 3.0)])]) for panel in PANELS]
    picture = ElementTree.fromstring(draw(charts, start=0.0, end=60.0))
    texts = {text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {panel.title for panel in PANELS} <= texts
    assert {f"<{panel.title}>" for panel in PANELS} <= texts
    assert len(list(picture.iter("{http://www.w3.org/2000/svg}polyline"))) == len(PANELS)
