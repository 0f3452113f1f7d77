"""Bounded cardinality: closed attributes are held to their values, metrics to a number of series.

>>> from flexmw.kit.semconv import METRICS
>>> series = Series(METRICS["flexmw.client.retries"], Bounds())
>>> series.of(("backoff", "503", None))
{'flexmw.retry.delay_source': 'backoff', 'error.type': '503'}
>>> series.of(("guess", None, None))
{'flexmw.retry.delay_source': '_OTHER'}
"""

from __future__ import annotations

from typing import Any, Final

from flexmw.kit.semconv import ATTRIBUTES, OTHER, SERIES, Metric
from flexmw.tagging.core import Attributes, Value
from flexmw.tagging.per_provider import PerProvider

__all__ = ["Bounds", "Series", "attributes_of", "closed_value", "is_long", "series_of"]

_DECLARED: Final = frozenset({"flexmw.error.type", "flexmw.error.code"})
"""Applications may declare values of these attributes. A ``Vocabulary`` has already held them to the larger set."""

_MAX_TEXT: Final = 256
"""Characters of the longest value of an open attribute: the values are kept, so their number is no bound in bytes."""

_ATTRIBUTE_TYPES: Final = (str, int, float, type(None))


class Bounds:
    """The values that each open attribute has taken so far, in all instruments of one meter provider."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[str, set[Value]] = {}

    def admit(self, name: str, value: Value) -> Value | None:
        """The value if the attribute may take it. Above the bound: ``_OTHER`` for a text, ``None`` for a number."""
        row = ATTRIBUTES[name]
        if row.values:
            return value if name in _DECLARED else closed_value(name, value)
        if row.bound is None:
            return value
        if is_long(value):
            return OTHER
        seen = self._seen.setdefault(name, set())
        if value not in seen:
            if len(seen) >= row.bound:
                return OTHER if isinstance(value, str) else None
            seen.add(value)
        return value


class Series:
    """The attribute sets of one metric and one meter provider. Each is built once and then found by its values."""

    __slots__ = ("_bounds", "_made", "_names", "_sets")

    def __init__(self, metric: Metric, bounds: Bounds) -> None:
        self._names, self._bounds = metric.attributes, bounds
        self._made: dict[tuple[Value | None, ...], Attributes] = {}
        self._sets: set[tuple[tuple[str, Value], ...]] = set()

    def of(self, values: tuple[Value | None, ...]) -> Attributes:
        """The attributes for these values. Equal values give the same dict, which must not be changed.

        :param values: in the order of the metric's row; ``None`` leaves an attribute out.
        """
        try:
            made = self._made.get(values)
        except TypeError:  # not hashable, such as a list of a plugin
            given: tuple[Any, ...] = values
            return self.of(tuple(value if isinstance(value, _ATTRIBUTE_TYPES) else OTHER for value in given))
        if made is None:
            made = self._make(values)
            if len(self._made) < SERIES and not any(map(is_long, values)):
                self._made[values] = made
        return made

    def _make(self, values: tuple[Value | None, ...]) -> Attributes:
        attributes: Attributes = {}
        for name, value in zip(self._names, values, strict=True):
            admitted = None if value is None else self._bounds.admit(name, value)
            if admitted is not None:
                attributes[name] = admitted
        key = tuple(attributes.items())
        if key not in self._sets:
            if len(self._sets) >= SERIES:
                return {name: value for name, value in attributes.items() if ATTRIBUTES[name].bound is None}
            self._sets.add(key)
        return attributes


class _Shared:
    """What the components that record to one meter provider share."""

    def __init__(self) -> None:
        self.bounds = Bounds()
        self.series: dict[str, Series] = {}


_shared: Final = PerProvider(_Shared)


def series_of(metric: Metric, provider: object) -> Series:
    """The attribute sets of a metric, shared by all components of the process that record to one meter provider.

    A program may wrap a new client for each call; bounds of each client would bound nothing.
    """
    shared = _shared.of(provider)
    return shared.series.setdefault(metric.name, Series(metric, shared.bounds))


def is_long(value: object) -> bool:
    """Whether a value is a text that is too long to be kept."""
    return isinstance(value, str) and len(value) > _MAX_TEXT


def closed_value(name: str, value: object) -> str | None:
    """``value`` if it is one of the attribute's values, else ``_OTHER``; ``None`` stays ``None``."""
    if value is None:
        return None
    return value if isinstance(value, str) and value in ATTRIBUTES[name].values else OTHER


def attributes_of(*pairs: tuple[str, Any]) -> Attributes:
    """Attributes from pairs of name and value: ``None`` is left out, closed attributes are held to their values."""
    attributes: Attributes = {}
    for name, value in pairs:
        if value is not None:
            attributes[name] = (closed_value(name, value) or OTHER) if ATTRIBUTES[name].values else value
    return attributes
