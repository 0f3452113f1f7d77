"""Spans, log records and metrics as the real SDK exports them."""

from __future__ import annotations

from threading import Condition
from typing import Any, Self

from opentelemetry._logs import NoOpLoggerProvider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind


class _Bell(SpanProcessor):
    """Rings when a span has ended and was exported."""

    def __init__(self) -> None:
        self.rung = Condition()

    def on_end(self, span: ReadableSpan) -> None:
        with self.rung:
            self.rung.notify_all()


class Signals:
    """Three providers of one test and what came out of them."""

    def __init__(self, *, logs: bool = True, **tracing: Any) -> None:
        self._spans, self._logs, self._metrics = (
            InMemorySpanExporter(),
            InMemoryLogRecordExporter(),
            InMemoryMetricReader(),
        )
        self.tracer_provider = TracerProvider(shutdown_on_exit=False, **tracing)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self._bell = _Bell()
        self.tracer_provider.add_span_processor(self._bell)
        self.meter_provider = MeterProvider([self._metrics], shutdown_on_exit=False)
        self.logger_provider: Any = LoggerProvider(shutdown_on_exit=False) if logs else NoOpLoggerProvider()
        if logs:
            self.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self._logs))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()
        if isinstance(self.logger_provider, LoggerProvider):
            self.logger_provider.shutdown()

    @property
    def options(self) -> dict[str, Any]:
        return {
            "tracer_provider": self.tracer_provider,
            "meter_provider": self.meter_provider,
            "logger_provider": self.logger_provider,
        }

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._spans.get_finished_spans())

    def of_kind(self, kind: SpanKind) -> list[ReadableSpan]:
        return [span for span in self.spans if span.kind is kind]

    def wait_for_server_spans(self, count: int) -> None:
        """Until so many have ended, in whatever thread."""
        with self._bell.rung:
            assert self._bell.rung.wait_for(lambda: len(self.of_kind(SpanKind.SERVER)) >= count, timeout=10)

    @property
    def server_span(self) -> ReadableSpan:
        (span,) = self.of_kind(SpanKind.SERVER)
        return span

    @property
    def client_spans(self) -> list[ReadableSpan]:
        return self.of_kind(SpanKind.CLIENT)

    @property
    def logs(self) -> list[Any]:
        return [each.log_record for each in self._logs.get_finished_logs()]

    @property
    def raw_logs(self) -> list[Any]:
        return list(self._logs.get_finished_logs())

    @property
    def exceptions(self) -> list[tuple[str, str]]:
        """Every record of an exception, wherever it went: (signal, class)."""
        found = [
            ("span", str(event.attributes["exception.type"]))
            for span in self.spans
            for event in span.events
            if event.name == "exception" and event.attributes
        ]
        found += [
            ("log", str(record.attributes["exception.type"]))
            for record in self.logs
            if "exception.type" in (record.attributes or {})
        ]
        return found

    def metric_data(self) -> list[Any]:
        data = self._metrics.get_metrics_data()
        return [] if data is None else [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]

    def points(self, name: str) -> list[tuple[dict[str, Any], float]]:
        """The data points of a metric: attributes and sum."""
        return [
            (dict(point.attributes), getattr(point, "value", getattr(point, "sum", None)))
            for metric in self.metric_data()
            if metric.name == name
            for point in metric.data.data_points
        ]
