"""Asynchronous counters: kept by Tagging, read by the SDK when it exports."""

from __future__ import annotations

import gc
from threading import Thread
from typing import Any
from weakref import ref

import pytest
from opentelemetry import trace
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import Counter, MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from flexmw.kit.semconv import METRICS
from flexmw.tagging.cardinality import Bounds, Series
from flexmw.tagging.otel import Otel
from flexmw.tagging.per_provider import PerProvider
from flexmw.tagging.tally import Tally

NAME = "flexmw.client.retries"


def points(reader: InMemoryMetricReader) -> list[Any]:
    data = reader.get_metrics_data()
    assert data is not None
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    assert metric.name == NAME
    assert metric.data.is_monotonic  # type: ignore[union-attr]
    return list(metric.data.data_points)


def test_all_components_of_one_provider_add_to_one_counter() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    one, other = Otel(meter_provider=provider), Otel(meter_provider=provider)
    one.count(NAME, "backoff", "503", None)
    other.count(NAME, "backoff", "503", None, number=2)
    other.count(NAME, "retry_after", None, None)
    for _ in range(2):
        values = [(dict(point.attributes), point.value) for point in points(reader)]
        assert values == [
            ({"flexmw.retry.delay_source": "backoff", "error.type": "503"}, 3),
            ({"flexmw.retry.delay_source": "retry_after"}, 1),
        ], "reading changes nothing"
    provider.shutdown()


def test_a_reader_of_deltas_gets_what_was_added_since_it_has_read() -> None:
    reader = InMemoryMetricReader(
        preferred_temporality={Counter: AggregationTemporality.DELTA, ObservableCounter: AggregationTemporality.DELTA}
    )
    provider = MeterProvider([reader], shutdown_on_exit=False)
    otel = Otel(meter_provider=provider)
    for number in (3, 2):
        otel.count(NAME, "backoff", None, None, number=number)
        assert [point.value for point in points(reader)] == [number]
    provider.shutdown()


def test_an_exemplar_is_exported_once_and_only_of_a_sampled_span() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    otel = Otel(meter_provider=provider)
    with TracerProvider(shutdown_on_exit=False).get_tracer("test").start_as_current_span("call") as span:
        otel.count(NAME, "backoff", None, None)
    otel.count(NAME, "retry_after", None, None, span=trace.INVALID_SPAN)
    traces = [[exemplar.trace_id for exemplar in point.exemplars] for point in points(reader)]
    assert traces == [[span.get_span_context().trace_id], []]
    assert [point.exemplars for point in points(reader)] == [[], []]
    provider.shutdown()


def test_threads_that_count_at_the_same_time_lose_nothing() -> None:
    tally = Tally(Series(METRICS[NAME], Bounds()))

    def work() -> None:
        for number in range(2_000):
            tally.count(("backoff", str(number % 3), None), None)
            if number % 500 == 0:
                tally.observations()

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(observation.value for observation in tally.observations()) == 8_000


def test_values_that_cannot_be_attributes_are_counted_as_other() -> None:
    tally, unfit = Tally(Series(METRICS[NAME], Bounds())), ["a", "list"]
    values: Any = ("backoff", unfit, None)
    tally.count(values, None)
    tally.count(values, None)
    assert [(each.value, each.attributes) for each in tally.observations()] == [
        (2, {"flexmw.retry.delay_source": "backoff", "error.type": "_OTHER"})
    ]


def test_nothing_is_counted_while_no_meter_provider_is_configured() -> None:
    otel = Otel(None, NoOpMeterProvider())  # another test of this process may have set the global provider
    otel.count(NAME, "backoff", None, None)
    assert otel.tally(NAME) is None


def test_a_provider_without_a_hash_is_known_by_its_identity_and_forgotten_when_it_is_gone() -> None:
    class Provider:
        __hash__ = None  # type: ignore[assignment]

    shared: PerProvider[list[int]] = PerProvider(list)
    provider = Provider()
    shared.of(provider).append(1)
    assert shared.of(provider) == [1]
    assert shared.of(Provider()) == []
    gone = ref(provider)
    del provider
    gc.collect()
    assert gone() is None
    assert not shared._values


@pytest.mark.parametrize("provider", [(), 1])
def test_a_provider_without_weak_references_is_kept(provider: object) -> None:
    shared: PerProvider[list[int]] = PerProvider(list)
    assert shared.of(provider) is shared.of(provider)
