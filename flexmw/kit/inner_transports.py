"""The transports of httpx and httpx2 that other transports wrap: caches, retries, loggers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

__all__ = ["inner_transports"]

_MAX_TRANSPORTS: Final = 16
_METHODS: Final = ("handle_request", "handle_async_request")


def inner_transports(transport: Any) -> Iterator[Any]:
    """The transport, and each one that it wraps, outermost first.

    A wrapped transport is found in an attribute of any name: libraries agree on none.
    """
    waiting, seen = [transport], set[int]()
    while waiting and len(seen) < _MAX_TRANSPORTS:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        attributes: dict[str, Any] = getattr(current, "__dict__", {})
        values = list(attributes.values())  # at once: another thread may use the transport, and set attributes
        waiting.extend(value for value in values if _is_transport(type(value)))


def _is_transport(cls: type) -> bool:
    return any(hasattr(cls, method) for method in _METHODS)
