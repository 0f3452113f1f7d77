"""Attribute sets of metrics: held to the table, made once."""

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


def test_a_number_of_values_that_the_table_does_not_know_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Series(ERRORS, Bounds()).of(("server_error",))


def test_closed_values_are_held_to_their_set_but_for_those_an_application_may_declare() -> None:
    assert Series(RETRIES, Bounds()).of(("guess", None)) == {"flexmw.retry.delay_source": OTHER}
    declared = Series(ERRORS, Bounds()).of(("own_type", "own_code", "own_source", None, None))
    assert declared == {
        "flexmw.error.type": "own_type",
        "flexmw.error.code": "own_code",
        "flexmw.error.source": OTHER,
    }


def test_an_open_value_that_is_one_too_many_becomes_other_or_goes_when_it_is_a_number() -> None:
    bounds = Bounds()
    routes, statuses = (ATTRIBUTES[name].bound or 0 for name in ("http.route", "http.response.status_code"))
    assert [bounds.admit("http.route", f"/{n}") for n in range(routes)] == [f"/{n}" for n in range(routes)]
    assert bounds.admit("http.route", "/more") == OTHER
    assert bounds.admit("http.route", "/0") == "/0"
    assert all(bounds.admit("http.response.status_code", n) == n for n in range(statuses))
    assert bounds.admit("http.response.status_code", statuses) is None
    assert bounds.admit("url.path", "/free") == "/free", "not for metrics: nobody counts"


def test_what_an_open_attribute_may_take_is_shared_by_the_instruments_of_a_component() -> None:
    bounds = Bounds()
    one, other = Series(RETRIES, bounds), Series(METRICS["flexmw.rate_limiting.check.duration"], bounds)
    for n in range(ATTRIBUTES["error.type"].bound or 0):
        one.of((None, f"Error{n}"))
    assert other.of((None, "Late")) == {"error.type": OTHER}


def test_an_instrument_with_its_fill_of_sets_drops_open_attributes_and_keeps_no_more_of_them() -> None:
    series = Series(METRICS["flexmw.rate_limiting.requests"], Bounds())
    sets = {tuple(series.of(("acquired", f"policy-{n % 20}", f"/{n // 20}")).items()) for n in range(3 * SERIES)}
    assert len(sets) <= SERIES + 1
    assert series.of(("rejected", "policy-3", "/74")) == {"flexmw.rate_limiting.result": "rejected"}
    assert len(series._made) <= SERIES


def test_a_value_that_is_no_attribute_harms_nothing() -> None:
    unfit: Any = ["a", "list"]
    assert Series(RETRIES, Bounds()).of(("backoff", unfit)) == {
        "flexmw.retry.delay_source": "backoff",
        "error.type": OTHER,
    }


def test_some_leaves_out_what_is_not_known() -> None:
    assert closed_value("flexmw.retry.safety", None) is None
    assert attributes_of(("flexmw.retry.safety", "none"), ("flexmw.retry.delay", None), ("error.type", "x")) == {
        "flexmw.retry.safety": "none",
        "error.type": "x",
    }
