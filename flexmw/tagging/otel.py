"""The one place that speaks to OpenTelemetry: its API only, never the SDK.

Everything is made once per component and lazily. What an SDK's span tells of itself beyond the API (its kind, its
events, the instrument that made it) is read where it is there and never relied on.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry import metrics, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.semconv import DURATION_BUCKETS, EVENTS, METRICS, SCHEMA_URL, SCOPE
from flexmw.tagging.cardinality import Bounds, Series
from flexmw.tagging.core import Attributes, Mode, Value, mode_of

_logs: Any
try:
    from opentelemetry import _logs
except ImportError:  # pragma: no cover - the module's name is private and may change
    _logs = None

__all__ = ["Otel", "current_span", "ends_with_body", "fail", "has_exception", "is_http_client"]

OPT_IN: Final = "OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN"
LOOK_EVERY: Final = 1.0
"""While nothing records, one request in so many seconds looks whether that has changed: the others read the clock."""

_ERROR: Final = Status(StatusCode.ERROR)
_UNSET: Final = frozenset(
    {
        "ProxyTracerProvider",
        "NoOpTracerProvider",
        "_ProxyMeterProvider",
        "NoOpMeterProvider",
        "ProxyLoggerProvider",
        "NoOpLoggerProvider",
    }
)
_ENDING_WITH_BODY: Final = "opentelemetry.instrumentation."

current_span: Final = trace.get_current_span


class Otel:
    """The tracer, the instruments and the logger of one component."""

    def __init__(
        self,
        tracer_provider: Any = None,
        meter_provider: Any = None,
        logger_provider: Any = None,
        *,
        clock: Clock = SYSTEM,
    ) -> None:
        self._providers = (tracer_provider, meter_provider, logger_provider)
        self._monotonic = clock.monotonic
        self._look_at = -math.inf
        self._tracer: trace.Tracer | None = None
        self._logger: Any = None
        self._instruments: dict[str, tuple[Any, Series]] = {}
        self._bounds = Bounds()
        self._traces = False
        self.live = False
        """Something records: seen once, believed for good."""

    def due(self) -> bool:
        """Whether this request is one of those that look whether anything records by now."""
        now = self._monotonic()
        if now < self._look_at:
            return False
        self._look_at = now + LOOK_EVERY
        self.live = self.live or any(self._configured())
        return True

    def _configured(self) -> tuple[bool, bool, bool]:
        tracers, meters, loggers = self._providers
        return (
            _is_set(tracers or trace.get_tracer_provider()),
            _is_set(meters or metrics.get_meter_provider()),
            _logs is not None and _is_set(loggers or _logs.get_logger_provider()),
        )

    @property
    def traces(self) -> bool:
        """Whether a tracer provider is set at all: seen once, believed for good."""
        self._traces = self._traces or self._configured()[0]
        return self._traces

    @property
    def tracer(self) -> trace.Tracer:
        if self._tracer is None:
            self._tracer = trace.get_tracer(SCOPE, _version(), self._providers[0], SCHEMA_URL)
        return self._tracer

    def count(self, name: str, *values: Value | None) -> None:
        """Add one to a counter of the table. ``values`` are those of its attributes, in the table's order."""
        instrument, series = self._instruments.get(name) or self._make(name)
        instrument.add(1, series.of(values))

    def record(self, name: str, seconds: float, *values: Value | None) -> None:
        """Give a histogram of the table a value."""
        instrument, series = self._instruments.get(name) or self._make(name)
        instrument.record(max(0.0, seconds), series.of(values))

    def _make(self, name: str) -> tuple[Any, Series]:
        metric = METRICS[name]
        meter = metrics.get_meter(SCOPE, _version(), self._providers[1], SCHEMA_URL)
        if metric.kind == "counter":
            instrument: Any = meter.create_counter(name, metric.unit, metric.meaning)
        else:
            instrument = meter.create_histogram(
                name, metric.unit, metric.meaning, explicit_bucket_boundaries_advisory=DURATION_BUCKETS
            )
        made = self._instruments[name] = instrument, Series(metric, self._bounds)
        return made

    def logs(self, event: str, *, quiet: bool = False) -> bool:
        """Whether anyone listens to an event of the table."""
        logger = self._get_logger()
        if logger is None:
            return False
        enabled = getattr(logger, "enabled", None)
        if enabled is None:
            return self._configured()[2]
        return bool(enabled(severity_number=_severity(event, quiet), event_name=event))

    def emit(self, event: str, attributes: Attributes, *, span: Span | None = None, quiet: bool = False) -> None:
        """Write a log event of the table, in the context of ``span`` (else of the current one)."""
        logger = self._get_logger()
        if logger is not None:
            severity = _severity(event, quiet)
            context = None if span is None else trace.set_span_in_context(span)
            logger.emit(
                event_name=event,
                severity_number=severity,
                severity_text=severity.name,
                attributes=attributes,
                context=context,
            )

    def _get_logger(self) -> Any:
        if self._logger is None and _logs is not None:
            self._logger = _logs.get_logger(SCOPE, _version(), self._providers[2], SCHEMA_URL)
        return self._logger

    @staticmethod
    def mode() -> Mode:
        """Which signal exceptions go to. Read at each exception: they are rare, and tests and hosts set it late."""
        return mode_of(os.environ.get(OPT_IN))


def fail(span: Span) -> None:
    """ERROR without a description: one would repeat the status or leak the exception's text."""
    span.set_status(_ERROR)


def has_exception(span: Span | None) -> bool:
    """Whether an exception is on this span already. Only the SDK's spans can tell."""
    return any(getattr(event, "name", "") == "exception" for event in getattr(span, "events", None) or ())


def ends_with_body(span: Span) -> bool:
    """Whether the instrument that made this span ends it with the last body (as contrib's do), and so before an
    exception that is raised again can reach it."""
    scope = getattr(span, "instrumentation_scope", None)
    return str(getattr(scope, "name", "")).startswith(_ENDING_WITH_BODY)


def is_server(span: Span) -> bool:
    """Whether this is the span of a request that came in."""
    return getattr(span, "kind", None) is SpanKind.SERVER


def is_http_client(span: Span) -> bool:
    """Whether this is an instrumentor's span of an HTTP call: of kind CLIENT and with an HTTP method."""
    attributes: Mapping[str, Any] = getattr(span, "attributes", None) or {}
    return getattr(span, "kind", None) is SpanKind.CLIENT and not attributes.keys().isdisjoint(
        ("http.request.method", "http.method")
    )


def _is_set(provider: object) -> bool:
    return type(provider).__name__ not in _UNSET


def _severity(event: str, quiet: bool) -> Any:
    row = EVENTS[event]
    return _logs.SeverityNumber(row.quiet if quiet and row.quiet is not None else row.severity)


def _version() -> str:
    from flexmw import __version__

    return __version__
