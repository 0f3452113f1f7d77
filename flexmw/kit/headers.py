"""A quick look at the headers of httpx and httpx2.

Most requests and responses carry none of the headers that a component looks for. ``name in headers`` decodes and
compares every line in Python, which costs more than the rest of the decision.

>>> has({"idempotency-key": "k"}, b"idempotency-key")
True
>>> has_any({"idempotency-key": "k"}, frozenset({b"idempotency-key", b"x-count"}))
True
"""

from __future__ import annotations

from functools import lru_cache
from operator import itemgetter
from typing import Any, Final

__all__ = ["has", "has_any"]

_LOWER_CASE_NAME: Final = itemgetter(1)

_WITH_LINES: Final[set[type]] = set()
"""The classes for which :func:`_has_lines` is true: a set is looked up faster than a cache of results."""


def has(headers: Any, name: bytes) -> bool:
    """Whether a name occurs. The names of a response are new objects without a hash: comparing is faster than hashing.

    :param headers: of httpx, of httpx2, or any mapping of names to values.
    :param name: in lower case.
    """
    cls: type = type(headers)
    if cls in _WITH_LINES or _has_lines(cls):
        return name in map(_LOWER_CASE_NAME, headers._list)
    return name.decode("ascii") in headers


def has_any(headers: Any, names: frozenset[bytes]) -> bool:
    """Whether one of the names occurs.

    :param headers: of httpx, of httpx2, or any mapping of names to values.
    :param names: in lower case.
    """
    cls: type = type(headers)
    if cls in _WITH_LINES or _has_lines(cls):
        return not names.isdisjoint(map(_LOWER_CASE_NAME, headers._list))
    return any(name.decode("ascii") in headers for name in names)


@lru_cache(maxsize=16)
def _has_lines(cls: type) -> bool:
    """Whether a class keeps its lines as both libraries do: triples of name, name in lower case, and value.

    Checked with httpx 0.28 and httpx2 2.16; any other class is searched by its public methods.
    """
    try:
        lines: Any = cls([("A", "b")])._list
    except Exception:
        return False
    if lines != [(b"A", b"a", b"b")]:
        return False
    _WITH_LINES.add(cls)
    return True
