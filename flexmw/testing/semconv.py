"""Compare exported telemetry with the tables of ``flexmw.kit.semconv``, in the tests of flexmw and of plugins.

>>> from types import SimpleNamespace as span
>>> assert_semconv([span(name="GET", kind=None, attributes={"flexmw.retry.delay_source": "backoff"})])
>>> assert_semconv([span(name="GET", kind=None, attributes={"flexmw.retry.delay_source": "guess"})])
Traceback (most recent call last):
    ...
AssertionError: span 'GET': flexmw.retry.delay_source = 'guess' is not one of retry_after, backoff, _OTHER
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from flexmw.kit.semconv import ATTRIBUTES, EVENTS, METRICS, SERIES, Attribute, Event, Metric, Place

__all__ = ["assert_semconv"]

_KINDS: Final[Mapping[str, tuple[type, ...]]] = {"string": (str,), "int": (int,), "double": (float, int)}
_SPANS: Final[Mapping[str, Place]] = {"SERVER": "server span", "CLIENT": "client span"}
_HTTP_CODE: Final = re.compile(r"http_[45]\d\d")
_DATA: Final = {"counter": "Sum", "histogram": "Histogram", "updowncounter": "Sum", "gauge": "Gauge"}


def assert_semconv(
    spans: Iterable[Any] = (),
    metrics: Iterable[Any] = (),
    logs: Iterable[Any] = (),
    *,
    extra: Iterable[Attribute | Event | Metric] = (),
    values: Mapping[str, Collection[str]] | None = None,
) -> None:
    """Check names, types, values, units and cardinality of what the SDK's in-memory exporters hold.

    Names that begin with ``flexmw.`` or with the namespace of a row of ``extra`` are checked; names of other
    namespaces belong to other instruments and are ignored.

    :param spans: finished spans.
    :param metrics: ``Metric`` objects of a metric reader.
    :param logs: log records.
    :param extra: rows that a plugin adds.
    :param values: further values of closed attributes by attribute name, such as the codes that were declared with
        ``Tagging(codes=...)``.
    :raises AssertionError: the first difference, with the place where it was found and the row of the table.
    """
    tables = _Tables(extra, values or {})
    for difference in (*tables.spans(spans), *tables.metrics(metrics), *tables.logs(logs)):
        raise AssertionError(difference)


class _Tables:
    """The rows of flexmw and of a plugin. Each method yields one sentence per difference."""

    def __init__(self, extra: Iterable[Attribute | Event | Metric], values: Mapping[str, Collection[str]]) -> None:
        rows = tuple(extra)
        self._attributes = {**ATTRIBUTES, **{row.name: row for row in rows if isinstance(row, Attribute)}}
        self._events = {**EVENTS, **{row.name: row for row in rows if isinstance(row, Event)}}
        self._metrics = {**METRICS, **{row.name: row for row in rows if isinstance(row, Metric)}}
        self._namespaces = (
            "flexmw.",
            *(f"{row.name.partition('.')[0]}." for row in rows if row.name not in ATTRIBUTES),
        )
        self._values = values

    def spans(self, spans: Iterable[Any]) -> Iterator[str]:
        for span in spans:
            place = _SPANS.get(getattr(span.kind, "name", ""))
            attributes: Mapping[str, Any] = span.attributes or {}
            for name, value in attributes.items():
                if name.startswith(self._namespaces):
                    yield from self._attribute(f"span {span.name!r}", name, value, place)

    def metrics(self, metrics: Iterable[Any]) -> Iterator[str]:
        for metric in metrics:
            row = self._metrics.get(metric.name)
            if row is None:
                if metric.name.startswith(self._namespaces):
                    yield f"metric {metric.name}: not in the table"
                continue
            if not metric.name.startswith(self._namespaces):
                continue
            points = [dict(point.attributes or {}) for point in metric.data.data_points]
            yield from self._instrument(row, metric, points)
            for point in points:
                yield from self._attributes_of(f"metric {row.name}", point, row.attributes, "metric")

    def _instrument(self, row: Metric, metric: Any, points: list[dict[str, Any]]) -> Iterator[str]:
        if metric.unit != row.unit:
            yield f"metric {row.name}: unit {metric.unit!r}, not {row.unit!r}"
        if type(metric.data).__name__ != _DATA[row.kind]:
            yield f"metric {row.name}: {type(metric.data).__name__}, not a {row.kind}"
        if len(points) > SERIES:
            yield f"metric {row.name}: {len(points)} attribute sets, more than {SERIES}"
        for name in row.attributes:
            bound = self._attributes[name].bound
            distinct = {point[name] for point in points if name in point}
            if bound is not None and len(distinct) > bound + 1:
                yield f"metric {row.name}: {len(distinct)} values of {name}, more than {bound}"

    def logs(self, logs: Iterable[Any]) -> Iterator[str]:
        for log in logs:
            record = getattr(log, "log_record", log)
            name = record.event_name or ""
            row = self._events.get(name)
            scope = getattr(getattr(log, "instrumentation_scope", None), "name", "flexmw")
            if row is None:
                if name.startswith(self._namespaces):
                    yield f"event {name}: not in the table"
                continue
            if scope != "flexmw" and not name.startswith(self._namespaces):
                continue
            severity = getattr(record.severity_number, "value", record.severity_number)
            if severity not in (row.severity, row.quiet):
                yield f"event {name}: severity {severity}, not {row.severity}"
            yield from self._attributes_of(f"event {name}", record.attributes or {}, row.attributes, "event")

    def _attributes_of(
        self, where: str, attributes: Mapping[str, Any], allowed: tuple[str, ...], place: Place
    ) -> Iterator[str]:
        for name, value in attributes.items():
            if name in allowed:
                yield from self._attribute(where, name, value, place)
            else:
                yield f"{where}: {name} does not belong on it"

    def _attribute(self, where: str, name: str, value: Any, place: Place | None) -> Iterator[str]:
        row = self._attributes.get(name)
        if row is None:
            yield f"{where}: {name} is not in the table"
            return
        if not isinstance(value, _KINDS[row.kind]) or isinstance(value, bool):
            yield f"{where}: {name} = {value!r} is no {row.kind}"
        elif row.values and value not in row.values and value not in self._values.get(name, ()):
            if name != "flexmw.error.code" or not _HTTP_CODE.fullmatch(str(value)):
                yield f"{where}: {name} = {value!r} is not one of {', '.join(row.values)}"
        elif place is not None and place not in row.places:
            yield f"{where}: {name} does not belong on {place}s"
