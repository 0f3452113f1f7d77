"""Attribute sets of metrics: bounded by the tables and built once."""

from __future__ import annotations

from typing import Any

import pytest

from flexmw.kit.semconv import ATTRIBUTES, METRICS, OTHER, SERIES
from flexmw.tagging.cardinality import Bounds, Series, attributes_of, closed_value

ERRORS = METRICS["flexmw.server.error_responses"]
RETRIES = METRICS["flexmw.client.retries"]


def test_the_same_values_are_the_same_object_and_unknown_ones_are_left_out() -> None:
    series = Series(ERRORS, Bounds())
    values = ("server_error", "internal_error", "unhandled_exception", 500, None)
    made = series.of(values)
    assert series.of(values) is made
    assert made == dict(zip(ERRORS.attributes, values[:4], strict=False))


def test_a_wrong_number_of_values_raises() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Series(ERRORS, Bounds()).of(("server_error",))


def test_closed_values_outside_their_set_become_other_except_those_that_an_application_may_declare() -> None:
    assert Series(RETRIES, Bounds()).of(("guess", None, None)) == {"flexmw.retry.delay_source": OTHER}
    declared = Series(ERRORS, Bounds()).of(("own_type", "own_code", "own_source", None, None))
    assert declared == {
        "flexmw.error.type": "own_type",
        "flexmw.error.code": "own_code",
        "flexmw.error.source": OTHER,
    }


def test_an_open_value_above_the_bound_becomes_other_or_is_left_out_when_it_is_a_number() -> None:
    bounds = Bounds()
    routes, statuses = (ATTRIBUTES[name].bound or 0 for name in ("http.route", "http.response.status_code"))
    assert [bounds.admit("http.route", f"/{n}") for n in range(routes)] == [f"/{n}" for n in range(routes)]
    assert bounds.admit("http.route", "/more") == OTHER
    assert bounds.admit("http.route", "/0") == "/0"
    assert all(bounds.admit("http.response.status_code", n) == n for n in range(statuses))
    assert bounds.admit("http.response.status_code", statuses) is None
    assert bounds.admit("url.path", "/free") == "/free", "not for metrics: nobody counts"


def test_the_bound_of_an_open_attribute_is_shared_by_the_instruments_of_a_component() -> None:
    bounds = Bounds()
    one, other = Series(RETRIES, bounds), Series(METRICS["flexmw.rate_limiting.check.duration"], bounds)
    for n in range(ATTRIBUTES["error.type"].bound or 0):
        one.of((None, f"Error{n}", None))
    assert other.of((None, "Late")) == {"error.type": OTHER}


def test_an_instrument_at_its_limit_of_sets_drops_open_attributes_and_keeps_no_more_sets() -> None:
    series = Series(METRICS["flexmw.rate_limiting.requests"], Bounds())
    sets = {tuple(series.of(("acquired", f"policy-{n % 20}", f"/{n // 20}")).items()) for n in range(3 * SERIES)}
    assert len(sets) <= SERIES + 1
    assert series.of(("rejected", "policy-3", "/74")) == {"flexmw.rate_limiting.result": "rejected"}
    assert len(series._made) <= SERIES


def test_a_value_of_a_wrong_type_becomes_other() -> None:
    unfit: Any = ["a", "list"]
    assert Series(RETRIES, Bounds()).of(("backoff", unfit, None)) == {
        "flexmw.retry.delay_source": "backoff",
        "error.type": OTHER,
    }


def test_attributes_of_leaves_out_unknown_values() -> None:
    assert closed_value("flexmw.retry.safety", None) is None
    assert attributes_of(("flexmw.retry.safety", "none"), ("flexmw.retry.delay", None), ("error.type", "x")) == {
        "flexmw.retry.safety": "none",
        "error.type": "x",
    }
