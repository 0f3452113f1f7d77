"""The OpenTelemetry API: tracer, metric instruments and logger of one component, created when they are first used.

Only the API is imported, never the SDK. See :mod:`flexmw.tagging.spans` for what is read from a span.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from weakref import WeakMethod

from opentelemetry import metrics, trace
from opentelemetry.trace import Span

from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.semconv import DURATION_BUCKETS, EVENTS, METRICS, RATIO_BUCKETS, SCHEMA_URL, SCOPE
from flexmw.tagging.cardinality import Series, series_of
from flexmw.tagging.core import Attributes, Mode, Value, mode_of
from flexmw.tagging.per_provider import PerProvider
from flexmw.tagging.tally import Cell, Tally, tally_of

_logs: Any
try:
    from opentelemetry import _logs
except ImportError:  # pragma: no cover - the module's name is private and may change
    _logs = None

__all__ = ["Otel"]

OPT_IN: Final = "OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN"
CHECK_INTERVAL: Final = 1.0
"""Seconds between two checks whether a provider is configured, while none is. Other requests only read the clock."""

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

_Callback = Callable[[], Iterable[tuple[int, Value]]]

_callbacks: Final[PerProvider[dict[str, list[WeakMethod[_Callback]]]]] = PerProvider(dict)
"""The callbacks of each observed gauge, by the name of the gauge, of all components that record to one provider."""


class Otel:
    """Tracer, metric instruments and logger of one component.

    :param tracer_provider: instead of the global one; the same for meters and loggers.
    """

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
        self._next_check = self._next_meters = -math.inf
        self._tracer: trace.Tracer | None = None
        self._logger: Any = None
        self._instruments: dict[str, tuple[Any, Series]] = {}
        """By name: the method of the instrument that takes a measurement, and its attribute sets."""
        self._tallies: dict[str, Tally] = {}
        self.request_cells: Mapping[tuple[Value | None, ...], Cell] = {}
        """The counts of ``flexmw.server.requests`` by status and route."""
        self._gauges: set[str] = set()
        self._traces = self._meters = False
        self.live = False
        """True once a provider was seen configured or a span recorded. It never becomes false again."""

    def is_idle(self) -> bool:
        """Whether nothing records, as far as is known, and the next check is not due yet."""
        return not self.live and self._monotonic() < self._next_check

    def due(self) -> bool:
        """Check at most once per :data:`CHECK_INTERVAL` whether a provider is configured, and set :attr:`live`.

        :returns: whether this call has checked. The request that checks is observed, also where nothing is configured:
            a span may record although no global provider is set.
        """
        now = self._monotonic()
        if now < self._next_check:
            return False
        self._next_check = now + CHECK_INTERVAL
        self.live = self.live or self._has_traces() or self._has_meters() or self._has_logs()
        return True

    def _has_traces(self) -> bool:
        return _is_tracing(self._providers[0] or trace.get_tracer_provider())

    def _has_meters(self) -> bool:
        return _is_set(self._providers[1] or metrics.get_meter_provider())

    def _has_logs(self) -> bool:
        return _logs is not None and _is_set(self._providers[2] or _logs.get_logger_provider())

    @property
    def tracer_provider(self) -> Any:
        """The provider of spans: that of the options, else the global one."""
        return self._providers[0] or trace.get_tracer_provider()

    @property
    def traces(self) -> bool:
        """Whether a tracer provider is configured. Once true, it stays true."""
        self._traces = self._traces or self._has_traces()
        return self._traces

    @property
    def meters(self) -> bool:
        """Whether a meter provider is configured: checked at most once per :data:`CHECK_INTERVAL`, and once true, it
        stays true."""
        # This provider alone: each request asks, and making a tracer costs more than the rest of a request.
        if not self._meters and (now := self._monotonic()) >= self._next_meters:
            self._next_meters = now + CHECK_INTERVAL
            self._meters = self._has_meters()
        return self._meters

    @property
    def tracer(self) -> trace.Tracer:
        if self._tracer is None:
            self._tracer = trace.get_tracer(SCOPE, _version(), self._providers[0], SCHEMA_URL)
        return self._tracer

    def count(self, name: str, *values: Value | None, span: Span | None = None, number: int = 1) -> None:
        """Add to a counter.

        :param name: of a row of ``METRICS``.
        :param values: one for each attribute of the row, in the order of the row; ``None`` leaves the attribute out.
        :param span: the span to take the exemplar from, which may have ended; ``None`` for the current span.
        :param number: what is added.
        """
        tally = self._tallies.get(name) or self.tally(name)
        if tally is not None:
            tally.count(values, trace.get_current_span() if span is None else span, number)

    def tally(self, name: str) -> Tally | None:
        """The counts of a metric; ``None`` while no meter provider is configured.

        :param name: of a row of ``METRICS`` whose kind is ``counter``.
        """
        tally = self._tallies.get(name)
        if tally is None and self.meters:
            tally = self._tallies[name] = tally_of(METRICS[name], *self._meter())
            if name == "flexmw.server.requests":
                self.request_cells = tally.cells
        return tally

    def record(self, name: str, seconds: float, *values: Value | None, span: Span | None = None) -> None:
        """Record a duration, or a ratio, in a histogram; the other parameters as for :meth:`count`."""
        write, series = self._instruments.get(name) or self._make(name)
        context = None if span is None else trace.set_span_in_context(span)
        write(max(0.0, seconds), series.of(values), context)

    def add(self, name: str, number: int, *values: Value | None, span: Span | None = None) -> None:
        """Add a number to an up-down counter; the other parameters as for :meth:`count`."""
        write, series = self._instruments.get(name) or self._make(name)
        write(number, series.of(values), None if span is None else trace.set_span_in_context(span))

    def observe(self, name: str, callback: _Callback) -> None:
        """Let a gauge with one attribute be observed, once for this component.

        :param callback: a method that returns pairs of a number and the value of the attribute. The gauge keeps no
            reference to its object. Equal values of several components are added up.
        """
        if name in self._gauges:
            return
        self._gauges.add(name)
        provider, meter = self._meter()
        callbacks: list[WeakMethod[_Callback]] = []
        known = _callbacks.of(provider).setdefault(name, callbacks)
        known.append(WeakMethod(callback))
        if known is callbacks:  # the SDK keeps only the callbacks of the first registration
            metric = METRICS[name]
            series = series_of(metric, provider)

            def observations(options: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
                totals: Counter[Value] = Counter()
                for get in (reference() for reference in list(callbacks)):
                    for number, value in get() if get is not None else ():
                        totals[value] += number
                return [metrics.Observation(number, series.of((value,))) for value, number in totals.items()]

            meter.create_observable_gauge(name, [observations], metric.unit, metric.meaning)

    def _make(self, name: str) -> tuple[Any, Series]:
        metric = METRICS[name]
        provider, meter = self._meter()
        write: Any
        if metric.kind == "updowncounter":
            write = meter.create_up_down_counter(name, metric.unit, metric.meaning).add
        elif metric.kind == "gauge":
            write = meter.create_gauge(name, metric.unit, metric.meaning).set
        else:
            buckets = RATIO_BUCKETS if metric.unit == "1" else DURATION_BUCKETS
            write = meter.create_histogram(
                name, metric.unit, metric.meaning, explicit_bucket_boundaries_advisory=buckets
            ).record
        entry = self._instruments[name] = write, series_of(metric, provider)
        return entry

    def _meter(self) -> tuple[Any, metrics.Meter]:
        """The provider of metrics, and a meter of it."""
        provider = self._providers[1] or metrics.get_meter_provider()
        return provider, metrics.get_meter(SCOPE, _version(), provider, SCHEMA_URL)

    def logs(self, event: str, *, quiet: bool = False) -> bool:
        """Whether a log event is exported.

        :param event: the name of a row of ``EVENTS``.
        :param quiet: whether it would be emitted with the row's lower severity.
        """
        logger = self._get_logger()
        if logger is None:
            return False
        enabled = getattr(logger, "enabled", None)
        if enabled is None:
            return self._has_logs()
        return bool(enabled(severity_number=_severity(event, quiet), event_name=event))

    def emit(self, event: str, attributes: Attributes, *, span: Span | None = None, quiet: bool = False) -> None:
        """Emit a log event in the context of ``span``, else of the current span; for the others see :meth:`logs`."""
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
        """Which signal exceptions go to. The variable is read for each exception, because it may be set late."""
        return mode_of(os.environ.get(OPT_IN))


def _is_set(provider: object) -> bool:
    return type(provider).__name__ not in _UNSET


def _is_tracing(provider: Any) -> bool:
    """Whether a tracer provider opens spans: an SDK that ``OTEL_SDK_DISABLED`` turns off hands out no-op tracers."""
    return _is_set(provider) and not isinstance(provider.get_tracer(SCOPE), trace.NoOpTracer)


def _severity(event: str, quiet: bool) -> Any:
    row = EVENTS[event]
    return _logs.SeverityNumber(row.quiet if quiet and row.quiet is not None else row.severity)


def _version() -> str:
    from flexmw import __version__

    return __version__
