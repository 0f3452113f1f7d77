"""Values held to the table: closed attributes to their sets, metrics to so many series, each made once.

>>> from flexmw.kit.semconv import METRICS
>>> series = Series(METRICS["flexmw.client.retries"], Bounds())
>>> series.of(("backoff", "503"))
{'flexmw.retry.delay_source': 'backoff', 'error.type': '503'}
>>> series.of(("guess", None))
{'flexmw.retry.delay_source': '_OTHER'}
"""

from __future__ import annotations

from typing import Any, Final

from flexmw.kit.semconv import ATTRIBUTES, OTHER, SERIES, Metric
from flexmw.tagging.core import Attributes, Value

__all__ = ["Bounds", "Series", "closed", "some"]

_DECLARED: Final = frozenset({"flexmw.error.type", "flexmw.error.code"})
"""An application may declare values of these: a vocabulary has held them to their set already."""


_PLAIN: Final = (str, int, float, type(None))


class Bounds:
    """The values that each open attribute has taken so far, over all instruments of a component."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[str, set[Value]] = {}

    def hold(self, name: str, value: Value) -> Value | None:
        """The value; where it is one too many ``_OTHER``, and ``None`` where that is not of its kind."""
        row = ATTRIBUTES[name]
        if row.values:
            return value if name in _DECLARED else closed(name, value)
        if row.bound is None:
            return value
        seen = self._seen.setdefault(name, set())
        if value not in seen:
            if len(seen) >= row.bound:
                return OTHER if isinstance(value, str) else None
            seen.add(value)
        return value


class Series:
    """The attribute sets of one instrument, by the values that its attributes take, in the order of the table."""

    __slots__ = ("_bounds", "_made", "_names", "_sets")

    def __init__(self, metric: Metric, bounds: Bounds) -> None:
        self._names, self._bounds = metric.attributes, bounds
        self._made: dict[tuple[Value | None, ...], Attributes] = {}
        self._sets: set[tuple[tuple[str, Value], ...]] = set()

    def of(self, values: tuple[Value | None, ...]) -> Attributes:
        """The attributes; the same object for the same values, not to be changed."""
        try:
            made = self._made.get(values)
        except TypeError:  # a list, say, of a plugin
            given: tuple[Any, ...] = values
            return self.of(tuple(value if isinstance(value, _PLAIN) else OTHER for value in given))
        if made is None:
            made = self._make(values)
            if len(self._made) < SERIES:
                self._made[values] = made
        return made

    def _make(self, values: tuple[Value | None, ...]) -> Attributes:
        found: Attributes = {}
        for name, value in zip(self._names, values, strict=True):
            held = None if value is None else self._bounds.hold(name, value)
            if held is not None:
                found[name] = held
        key = tuple(found.items())
        if key not in self._sets:
            if len(self._sets) >= SERIES:
                return {name: value for name, value in found.items() if ATTRIBUTES[name].bound is None}
            self._sets.add(key)
        return found


def closed(name: str, value: object) -> str | None:
    """A value of a closed attribute; anything else becomes ``_OTHER``."""
    if value is None:
        return None
    return value if isinstance(value, str) and value in ATTRIBUTES[name].values else OTHER


def some(*pairs: tuple[str, Any]) -> Attributes:
    """Pairs without those that are ``None``, closed values held to their set."""
    found: Attributes = {}
    for name, value in pairs:
        if value is not None:
            known = closed(name, value) if ATTRIBUTES[name].values else value
            found[name] = value if known is None else known
    return found
