"""The tables of telemetry names are consistent, and the page is generated from them."""

from __future__ import annotations

import ast
import importlib
import math
import pkgutil
import re
from pathlib import Path
from typing import get_args

import flexmw
from flexmw.contract import PAGE, STATUS
from flexmw.errors import APIError
from flexmw.kit.semconv import ATTRIBUTES, CODES, EVENTS, METRICS, OTHER, SERIES, TYPES
from flexmw.retry.continuation import Loss
from flexmw.retry.core import StopReason
from scripts.telemetry_page import page


def test_the_page_is_generated_from_the_tables() -> None:
    written = (Path(__file__).parents[2] / "docs" / "telemetry.md").read_text("utf-8")
    assert written == page(), "run: python -m scripts.telemetry_page > docs/telemetry.md"


def test_every_attribute_of_an_event_or_a_metric_is_a_row_with_that_place() -> None:
    for event in EVENTS.values():
        assert all("event" in ATTRIBUTES[name].places for name in event.attributes), event.name
    for metric in METRICS.values():
        assert all("metric" in ATTRIBUTES[name].places for name in metric.attributes), metric.name


def test_no_metric_attribute_is_unbounded() -> None:
    for metric in METRICS.values():
        for name in metric.attributes:
            attribute = ATTRIBUTES[name]
            assert attribute.values or attribute.bound, f"{metric.name}: {name}"


def test_the_attributes_that_every_series_keeps_are_few_enough_to_be_listed() -> None:
    """Where an instrument has its fill of series, its open attributes go: what is left must be bounded by itself.
    (A code has one type: the type adds no series.)"""
    for metric in METRICS.values():
        names = [name for name in metric.attributes if name != "flexmw.error.type"]
        closed = [len(ATTRIBUTES[name].values) for name in names if ATTRIBUTES[name].values]
        assert math.prod(closed) <= SERIES, metric.name


def test_names_and_units_follow_the_conventions() -> None:
    for name in (*ATTRIBUTES, *EVENTS, *METRICS):
        assert re.fullmatch(r"[a-z_]+(\.[a-z][a-z_]*)+", name), name
        assert not name.endswith("_total"), name
    for metric in METRICS.values():
        assert re.fullmatch(r"s|1|\{[a-z]+\}", metric.unit), metric.name
        assert metric.kind == "histogram" or metric.unit.startswith("{"), metric.name


def test_closed_sets_that_others_can_extend_contain_other() -> None:
    for name in ("flexmw.error.type", "flexmw.error.code", "flexmw.error.source", "flexmw.retry.stop_reason"):
        assert OTHER in ATTRIBUTES[name].values


def test_every_error_of_flexmw_has_its_code_and_type_in_the_table() -> None:
    for module in pkgutil.walk_packages(flexmw.__path__, "flexmw."):
        if module.name.endswith((".errors", ".core")):
            importlib.import_module(module.name)
    kinds, seen = [APIError], []
    while kinds:
        kinds.extend((kind := kinds.pop()).__subclasses__())
        if kind.row is not None and kind.__module__.startswith("flexmw."):
            seen.append(kind.row)
    assert len(seen) >= len(PAGE)
    for row in seen:
        assert row.code in CODES
        assert row.type in TYPES


def literal_codes(folder: str) -> set[str]:
    """The codes that the modules of a folder set as a literal: ``code="..."`` as an argument or an assignment, and
    ``code = "..." if ... else ...``."""
    codes: set[str] = set()
    for path in (Path(flexmw.__file__).parent / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            is_argument = isinstance(node, ast.keyword) and node.arg == "code"
            if is_argument or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "code"):
                values = [node.value.body, node.value.orelse] if isinstance(node.value, ast.IfExp) else [node.value]
                codes.update(str(ast.literal_eval(value)) for value in values if isinstance(value, ast.Constant))
    return codes - {"None"}


def test_the_codes_beyond_the_contract_are_those_of_idempotency_and_envelope() -> None:
    contract = {row.code for row in (*PAGE.values(), *STATUS.values())}
    idempotency = {
        error.row.code
        for error in vars(importlib.import_module("flexmw.idempotency.errors")).values()
        if isinstance(error, type) and issubclass(error, APIError) and error.row is not None
    }
    envelope = literal_codes("contract") | literal_codes("envelope")
    assert {code for code in idempotency if code.startswith("idempotency_")} <= set(CODES)
    assert set(CODES) - {OTHER} - contract == (idempotency | envelope) - contract


def test_every_reason_of_retry_for_stopping_is_a_value_in_the_table() -> None:
    # These are in no such event, but on the Outcome.
    of_outcomes = {"body_broken", "cancelled", "client_closed", "given_back_before", *get_args(Loss)}
    values = {*ATTRIBUTES["flexmw.retry.stop_reason"].values}
    assert set(get_args(StopReason)) | of_outcomes == values - {OTHER}
