"""Exception slots: arguments, cause and traceback of an exception as the interpreter keeps them. Pure.

A class may override these attributes with properties that raise. flexmw reads every exception that passes through it,
and must not raise another exception in its place.

>>> class Odd(Exception):
...     @property
...     def args(self):
...         raise RuntimeError
>>> args_of(Odd("text"))
('text',)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Final

__all__ = ["args_of", "attributes_of", "cause_of", "chain_of", "context_of", "hides_context", "traceback_of"]

args_of: Final[Callable[[BaseException], tuple[Any, ...]]] = BaseException.__dict__["args"].__get__
"""The arguments that an exception was made with."""

cause_of: Final[Callable[[BaseException], BaseException | None]] = BaseException.__dict__["__cause__"].__get__
"""The exception that an exception was raised from."""

context_of: Final[Callable[[BaseException], BaseException | None]] = BaseException.__dict__["__context__"].__get__
"""The exception that was being handled when an exception was raised."""

hides_context: Final[Callable[[BaseException], bool]] = BaseException.__dict__["__suppress_context__"].__get__
"""Whether an exception was raised ``from`` another one or ``from None``."""

traceback_of: Final[Callable[[BaseException], TracebackType | None]] = BaseException.__dict__["__traceback__"].__get__
"""The frames that an exception has passed through."""

_MAX_CHAIN: Final = 20
"""Exceptions of one chain that are looked at. A chain can also be a circle."""


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, then what it was raised from or while handling, and so on to the first one.

    A context that an exception hides (``raise ... from None``) is yielded too. Each exception is yielded once.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(seen) < _MAX_CHAIN:
        seen.add(id(current))
        yield current
        cause = cause_of(current)
        current = context_of(current) if cause is None else cause


def attributes_of(error: BaseException) -> dict[str, Any]:
    """The ``__dict__`` of an exception, not a copy."""
    attributes: dict[str, Any] = object.__getattribute__(error, "__dict__")
    return attributes
