"""The transports of httpx and httpx2 that other transports wrap: caches, retries, loggers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from types import MemberDescriptorType
from typing import Any, Final

__all__ = ["TAGGED_ATTRIBUTE", "inner_transports"]

TAGGED_ATTRIBUTE: Final = "_flexmw_tagged"
"""Attribute of an app or a transport: the Tagging of an instrumentation, and the object that was made with it.

The object is around the app or the transport. So it is not a transport that the transport wraps."""

_MAX_TRANSPORTS: Final = 16
_MAX_VALUES: Final = 64
"""The number of values that are searched in a container, from the first one: it may be the store of a cache."""
_VALUES_OF: Final[Mapping[type, Callable[[Any], Iterable[Any]]]] = {
    dict: dict[Any, Any].values,
    list: list[Any].__iter__,
    tuple: tuple[Any, ...].__iter__,
    set: set[Any].__iter__,
    frozenset: frozenset[Any].__iter__,
    deque: deque[Any].__iter__,
}
"""How the values of a container are read. A subclass is read in the same way, so that no method of its own runs."""
_METHODS: Final = ("handle_request", "handle_async_request")


def inner_transports(transport: Any) -> Iterator[Any]:
    """The transport, and each one that it wraps, outermost first.

    A wrapped transport is found in an attribute of any name: libraries agree on none. It is also found in a list, a
    dict or another container, where a transport chooses among several, and in a container in it, as in a list of pairs.
    """
    waiting, seen = [transport], set[int]()
    while waiting and len(seen) < _MAX_TRANSPORTS:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting.extend(value for value in _held(_attributes(current), depth=2) if _is_transport(type(value)))


def _attributes(transport: Any) -> list[Any]:
    """The values in the ``__dict__`` and the slots of a transport. No property runs."""
    own: dict[str, Any] = getattr(transport, "__dict__", {})
    # At once: another thread may use the transport, and set attributes.
    values = [value for name, value in list(own.items()) if name != TAGGED_ATTRIBUTE]
    for cls in type(transport).__mro__:
        for slot in vars(cls).values():
            if type(slot) is MemberDescriptorType:
                with suppress(AttributeError):
                    values.append(slot.__get__(transport))
    return values


def _held(values: Iterable[Any], *, depth: int) -> Iterator[Any]:
    """The values, and those in the containers among them, down to a depth."""
    for value in values:
        # By the type, because a mock of a container has its class by `__class__` only.
        container = next((base for base in type(value).__mro__ if base in _VALUES_OF), None)
        if container is None:
            yield value
        elif depth:
            with suppress(RuntimeError):  # another thread has changed the container
                yield from _held(list(islice(_VALUES_OF[container](value), _MAX_VALUES)), depth=depth - 1)


def _is_transport(cls: type) -> bool:
    return any(hasattr(cls, method) for method in _METHODS)
