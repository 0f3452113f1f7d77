"""The transports of httpx and httpx2 that other transports wrap: caches, retries, loggers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from types import MemberDescriptorType
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
        waiting.extend(value for value in _attributes(current) if _is_transport(type(value)))


def _attributes(transport: Any) -> list[Any]:
    """The values in the ``__dict__`` and the slots of a transport. No property runs.

    The values of a list, a tuple or a dict are not followed: :mod:`flexmw.instrument` keeps the transport outside of a
    transport in a tuple.
    """
    own: dict[str, Any] = getattr(transport, "__dict__", {})
    values = list(own.values())  # at once: another thread may use the transport, and set attributes
    for cls in type(transport).__mro__:
        for slot in vars(cls).values():
            if type(slot) is MemberDescriptorType:
                with suppress(AttributeError):
                    values.append(slot.__get__(transport))
    return values


def _is_transport(cls: type) -> bool:
    return any(hasattr(cls, method) for method in _METHODS)
