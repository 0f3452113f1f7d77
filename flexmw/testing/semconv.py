"""Hold what was exported against the table of names: for flexmw's own tests and for those of a plugin.

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
_DATA: Final = {"counter": "Sum", "histogram": "Histogram"}


def assert_semconv(
    spans: Iterable[Any] = (),
    metrics: Iterable[Any] = (),
    logs: Iterable[Any] = (),
    *,
    extra: Iterable[Attribute | Event | Metric] = (),
    values: Mapping[str, Collection[str]] | None = None,
) -> None:
    """Check names, types, value sets, units and cardinality of what the OTel SDK's in-memory exporters hold.

    Looked at is whatever has a name of the table, begins with ``flexmw.``, or begins like a row of ``extra``: other
    instruments' names are their own business.

    :param spans: finished spans. :param metrics: ``Metric`` objects of a reader. :param logs: log records.
    :param extra: rows that a plugin adds. :param values: further values of closed attributes, by name, such as the
        codes that were declared with ``Tagging(codes=...)``.
    :raises AssertionError: naming what was found, where, and what the table says.
    """
    table = _Table(extra, values or {})
    for problem in (*table.spans(spans), *table.metrics(metrics), *table.logs(logs)):
        raise AssertionError(problem)


class _Table:
    def __init__(self, extra: Iterable[Attribute | Event | Metric], values: Mapping[str, Collection[str]]) -> None:
        rows = tuple(extra)
        self._attributes = {**ATTRIBUTES, **{row.name: row for row in rows if isinstance(row, Attribute)}}
        self._events = {**EVENTS, **{row.name: row for row in rows if isinstance(row, Event)}}
        self._metrics = {**METRICS, **{row.name: row for row in rows if isinstance(row, Metric)}}
        self._roots = ("flexmw.", *(f"{row.name.partition('.')[0]}." for row in rows if row.name not in ATTRIBUTES))
        self._values = values

    def spans(self, spans: Iterable[Any]) -> Iterator[str]:
        for span in spans:
            place = _SPANS.get(getattr(span.kind, "name", ""))
            attributes: Mapping[str, Any] = span.attributes or {}
            for name, value in attributes.items():
                if name.startswith(self._roots):
                    yield from self._attribute(f"span {span.name!r}", name, value, place)

    def metrics(self, metrics: Iterable[Any]) -> Iterator[str]:
        for found in metrics:
            row = self._metrics.get(found.name)
            if row is None:
                if found.name.startswith(self._roots):
                    yield f"metric {found.name}: not in the table"
                continue
            if not found.name.startswith(self._roots):
                continue
            points = [dict(point.attributes or {}) for point in found.data.data_points]
            yield from self._instrument(row, found, points)
            for point in points:
                yield from self._all(f"metric {row.name}", point, row.attributes, "metric")

    def _instrument(self, row: Metric, found: Any, points: list[dict[str, Any]]) -> Iterator[str]:
        if found.unit != row.unit:
            yield f"metric {row.name}: unit {found.unit!r}, not {row.unit!r}"
        if type(found.data).__name__ != _DATA[row.kind]:
            yield f"metric {row.name}: {type(found.data).__name__}, not a {row.kind}"
        if len(points) > SERIES:
            yield f"metric {row.name}: {len(points)} attribute sets, more than {SERIES}"
        for name in row.attributes:
            bound = self._attributes[name].bound
            distinct = {point[name] for point in points if name in point}
            if bound is not None and len(distinct) > bound + 1:
                yield f"metric {row.name}: {len(distinct)} values of {name}, more than {bound}"

    def logs(self, logs: Iterable[Any]) -> Iterator[str]:
        for each in logs:
            record = getattr(each, "log_record", each)
            name = record.event_name or ""
            row = self._events.get(name)
            scope = getattr(getattr(each, "instrumentation_scope", None), "name", "flexmw")
            if row is None:
                if name.startswith(self._roots):
                    yield f"event {name}: not in the table"
                continue
            if scope != "flexmw" and not name.startswith(self._roots):
                continue
            severity = getattr(record.severity_number, "value", record.severity_number)
            if severity not in (row.severity, row.quiet):
                yield f"event {name}: severity {severity}, not {row.severity}"
            yield from self._all(f"event {name}", record.attributes or {}, row.attributes, "event")

    def _all(self, where: str, found: Mapping[str, Any], allowed: tuple[str, ...], place: Place) -> Iterator[str]:
        for name, value in found.items():
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
