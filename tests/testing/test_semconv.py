"""assert_semconv finds what a plugin gets wrong, with the real SDK's own objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.trace import SpanKind

from flexmw.kit.semconv import Attribute, Event, Metric
from flexmw.testing.semconv import assert_semconv
from tests.conftest import Telemetry

OWN = (
    Attribute(
        "acme.audit.result", "string", "What the audit said.", ("server span", "event", "metric"), ("clean", "dirty")
    ),
    Event("acme.audit.failed", 13, "It failed.", ("acme.audit.result",)),
    Metric("acme.audit.requests", "counter", "{request}", "Audited requests.", ("acme.audit.result",)),
)


def span(name: str, value: Any, kind: SpanKind = SpanKind.SERVER) -> Callable[[Telemetry], None]:
    def write(telemetry: Telemetry) -> None:
        with telemetry.tracer_provider.get_tracer("acme").start_as_current_span("GET", kind=kind) as span:
            span.set_attribute(name, value)

    return write


def counter(name: str, unit: str = "{request}", **attributes: Any) -> Callable[[Telemetry], None]:
    named = {name.replace("__", "."): value for name, value in attributes.items()}
    return lambda telemetry: telemetry.meter_provider.get_meter("acme").create_counter(name, unit).add(1, named)


def many(telemetry: Telemetry) -> None:
    counter = telemetry.meter_provider.get_meter("acme").create_counter("flexmw.rate_limiting.requests", "{request}")
    for n in range(30):
        counter.add(1, {"flexmw.rate_limiting.policy": str(n)})


def event(name: str, severity: SeverityNumber, **attributes: Any) -> Callable[[Telemetry], None]:
    named = {name.replace("__", "."): value for name, value in attributes.items()}
    return lambda telemetry: telemetry.logger_provider.get_logger("acme").emit(
        event_name=name, severity_number=severity, attributes=named
    )


def check(telemetry: Telemetry, **options: Any) -> None:
    assert_semconv(telemetry.spans, telemetry.metrics().values(), telemetry.logs, extra=OWN, **options)


@pytest.mark.parametrize(
    "write",
    [
        span("flexmw.error.code", "model_not_found"),
        span("flexmw.error.code", "http_418"),
        span("acme.audit.result", "clean"),
        span("http.anything", 1),
        span("other.library", 3),
        counter("acme.audit.requests", acme__audit__result="dirty"),
        counter("other.library.total", "weird"),
        event("acme.audit.failed", SeverityNumber.WARN, acme__audit__result="dirty"),
        event("other.event", SeverityNumber.TRACE, anything=1),
        event("http.server.request.exception", SeverityNumber.FATAL, anything="of another library"),
    ],
    ids=range(10),
)
def test_what_follows_the_table_or_is_not_ours_passes(
    write: Callable[[Telemetry], None], in_memory_telemetry: Telemetry
) -> None:
    write(in_memory_telemetry)
    check(in_memory_telemetry)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (span("flexmw.unknown", 1), "flexmw.unknown is not in the table"),
        (span("flexmw.error.code", "mine"), "'mine' is not one of"),
        (span("flexmw.rate_limiting.limit", "2"), "'2' is no int"),
        (span("flexmw.rate_limiting.limit", True), "True is no int"),
        (span("flexmw.error.source", "validation", SpanKind.CLIENT), "does not belong on client spans"),
        (span("acme.audit.result", "maybe"), "'maybe' is not one of clean, dirty"),
        (counter("flexmw.unknown"), "metric flexmw.unknown: not in the table"),
        (counter("acme.audit.requests", "1"), "unit '1', not '{request}'"),
        (counter("flexmw.client.operation.duration", "s"), "Sum, not a histogram"),
        (counter("acme.audit.requests", acme__user="u"), "acme.user does not belong on it"),
        (many, "30 values of flexmw.rate_limiting.policy, more than 20"),
        (event("flexmw.unknown", SeverityNumber.WARN), "event flexmw.unknown: not in the table"),
        (event("acme.audit.failed", SeverityNumber.ERROR), "severity 17, not 13"),
        (event("flexmw.retry.stopped", SeverityNumber.WARN, who="me"), "who does not belong on it"),
    ],
    ids=range(14),
)
def test_what_does_not_is_named(write: Callable[[Telemetry], None], words: str, in_memory_telemetry: Telemetry) -> None:
    write(in_memory_telemetry)
    with pytest.raises(AssertionError) as caught:
        check(in_memory_telemetry)
    assert words in str(caught.value)


def test_declared_values_are_known(in_memory_telemetry: Telemetry) -> None:
    span("flexmw.error.code", "quota_frozen")(in_memory_telemetry)
    check(in_memory_telemetry, values={"flexmw.error.code": {"quota_frozen"}})
