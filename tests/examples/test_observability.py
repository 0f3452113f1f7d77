"""Every query of the dashboard and of the alerts finds what the gateway under load shows to Prometheus."""

from __future__ import annotations

import re

import anyio
import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

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
