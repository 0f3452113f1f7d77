"""Check the options of a profile that is not chosen, without using them: the profile belongs to another environment.

>>> is_checking()
False
>>> with only_checking():
...     is_checking()
True
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, Final

from flexmw.errors import ConfigError

__all__ = ["UNKNOWN", "Unknown", "check_values", "is_checking", "only_checking"]

_checking: Final[ContextVar[bool]] = ContextVar("flexmw.kit.checking", default=False)


class Unknown(Enum):
    """The type of :data:`UNKNOWN`."""

    UNKNOWN = "unknown"


UNKNOWN: Final = Unknown.UNKNOWN
"""The value of an option that another environment provides. It occurs only while :func:`is_checking` is true."""


@contextmanager
def only_checking() -> Generator[None]:
    """In this context, options are checked for another environment: no component of the context will be used."""
    token = _checking.set(True)
    try:
        yield
    finally:
        _checking.reset(token)


def is_checking() -> bool:
    """Whether options are only checked, for another environment. A constructor then contacts no store, registers
    nothing in its process, and does not require a driver to be installed."""
    return _checking.get()


def check_values(cls: type[Any], values: Mapping[str, Any]) -> None:
    """Apply the rules of some options of a class. A class that is not a dataclass has none.

    :param values: the values by the names of the options. :data:`UNKNOWN` is not checked.
    :raises ConfigError: naming class, option, value and what would be right.
    """
    for option in fields(cls) if is_dataclass(cls) else ():
        rule: Any = option.metadata.get("rule")
        value = values.get(option.name, UNKNOWN)
        if rule is not None and value is not UNKNOWN and not rule.test(value):
            shown = "***" if option.metadata.get("secret") else value
            raise ConfigError(f"{cls.__name__}({option.name}=...)", shown, rule.expected)
