"""Asynchronous counters: a count is kept here, and the OpenTelemetry SDK reads it when it exports.

A measurement of a synchronous counter costs the SDK as much as half of a span: it makes an object, copies and hashes
the attributes, and takes a lock. Here a count costs one lookup. What is exported is the same: a monotonic sum, with the
trace of one measurement since the last export as its exemplar.

>>> from flexmw.kit.semconv import METRICS
>>> tally = Tally(Series(METRICS["flexmw.client.retries"], Bounds()))
>>> tally.count(("backoff", "503", None), None)
>>> tally.count(("backoff", "503", None), None, 2)
>>> [(observation.value, observation.attributes) for observation in tally.observations()]
[(3, {'flexmw.retry.delay_source': 'backoff', 'error.type': '503'})]
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from threading import RLock
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import Observation
from opentelemetry.trace import Span, SpanContext

from flexmw.kit.forked import fork_safe
from flexmw.kit.semconv import SERIES, Metric
from flexmw.tagging.cardinality import Bounds, Series, is_long, series_of
from flexmw.tagging.core import Attributes, Value
from flexmw.tagging.per_provider import PerProvider

__all__ = ["Bounds", "Cell", "Series", "Tally", "tally_of"]

_SAMPLED: Final = trace.TraceFlags.SAMPLED


class Cell:
    """The count of one attribute set.

    :ivar add: adds one. It is the ``__next__`` of an iterator, because that is atomic: requests of several threads
        count without a lock.
    :ivar trace: the span of the first measurement since the last export that was sampled; ``None`` before it.
    """

    __slots__ = ("_attributes", "_more", "_reads", "add", "trace")

    def __init__(self, attributes: Attributes) -> None:
        self._attributes = attributes
        self._more = self._reads = 0
        self.add: Callable[[], int] = count().__next__
        self.trace: SpanContext | None = None

    def add_more(self, number: int) -> None:
        """Add a number. The caller holds the lock of the tally."""
        self._more += number

    def set_trace(self, span: Span) -> None:
        """Note the span of a measurement, if it is sampled. Called while ``trace`` is ``None``."""
        context = span.get_span_context()
        if context.trace_flags & _SAMPLED:
            self.trace = context

    def observation(self) -> Observation:
        """The count so far, with its exemplar. The caller holds the lock of the tally."""
        value = self.add() - self._reads + self._more
        self._reads += 1
        span, self.trace = self.trace, None
        context = None if span is None else trace.set_span_in_context(trace.NonRecordingSpan(span), Context())
        return Observation(value, self._attributes, context)


class Tally:
    """The counts of one metric and one meter provider, of all components of the process.

    :param series: the attribute sets of the metric.
    """

    __slots__ = ("_by_attributes", "_lock", "_series", "cells")

    def __init__(self, series: Series) -> None:
        self._series = series
        self._lock = fork_safe(RLock())  # the garbage collector may end a request while this thread holds the lock
        self._by_attributes: dict[tuple[tuple[str, Value], ...], Cell] = {}
        self.cells: dict[tuple[Value | None, ...], Cell] = {}
        """By the values of the attributes, in the order of the metric's row."""

    def count(self, values: tuple[Value | None, ...], span: Span | None, number: int = 1) -> None:
        """Add to a count.

        :param values: in the order of the metric's row; ``None`` leaves an attribute out.
        :param span: where the measurement belongs; ``None`` for no span.
        :param number: what is added, at least 0.
        """
        cell = self.cell(values)
        if number == 1:
            cell.add()
        else:
            with self._lock:
                cell.add_more(number)
        if span is not None and cell.trace is None:
            cell.set_trace(span)

    def cell(self, values: tuple[Value | None, ...]) -> Cell:
        """The count for these values; for the parameter see :meth:`count`."""
        try:
            known = self.cells.get(values)
        except TypeError:  # not hashable: the series replaces what cannot be a value
            return self._cell_of(self._series.of(values))
        if known is None:
            known = self._cell_of(self._series.of(values))
            if len(self.cells) < SERIES and not any(map(is_long, values)):
                self.cells[values] = known
        return known

    def _cell_of(self, attributes: Attributes) -> Cell:
        with self._lock:
            key = tuple(attributes.items())
            if key not in self._by_attributes:
                self._by_attributes[key] = Cell(attributes)
            return self._by_attributes[key]

    def observations(self, options: Any = None) -> list[Observation]:
        """The counts so far: the callback of the asynchronous counter."""
        with self._lock:
            return [cell.observation() for cell in list(self._by_attributes.values())]


_tallies: Final[PerProvider[dict[str, Tally]]] = PerProvider(dict)


def tally_of(metric: Metric, provider: Any, meter: Any) -> Tally:
    """The counts of a metric and a meter provider. The first component that counts registers the counter: the SDK
    keeps only the callbacks of the first registration.

    :param provider: an OpenTelemetry meter provider.
    :param meter: of that provider.
    """
    tallies = _tallies.of(provider)
    tally = Tally(series_of(metric, provider))
    if (known := tallies.setdefault(metric.name, tally)) is tally:
        meter.create_observable_counter(metric.name, [tally.observations], metric.unit, metric.meaning)
    return known
