"""Options that check themselves: a frozen dataclass whose fields carry a rule and the words for it.

>>> from dataclasses import dataclass
>>> @dataclass(frozen=True, kw_only=True)
... class Audit:
...     header: str = option("x-audit", text)
...     __post_init__ = check
>>> Audit(header=3)
Traceback (most recent call last):
    ...
flexmw.errors.ConfigError: Audit(header=...) = 3: expected a text that is not empty
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, ClassVar, Final, Protocol

from flexmw.errors import ConfigError

__all__ = [
    "Rule",
    "check",
    "flag",
    "function",
    "one_of",
    "option",
    "optional",
    "seconds",
    "several",
    "text",
    "whole",
]


@dataclass(frozen=True, slots=True)
class Rule:
    """``test`` says whether a value is right, ``expected`` what a right one is, in words that end a sentence."""

    expected: str
    test: Callable[[Any], bool]


def option(default: Any = MISSING, rule: Rule | None = None, *, secret: bool = False, hidden: bool = False) -> Any:
    """A dataclass field with its rule. ``secret`` and ``hidden`` keep the value out of ``repr`` and ``describe()``;
    a ``hidden`` one (a clock, a source of randomness) does not take part in comparisons either."""
    metadata = {"rule": rule, "secret": secret, "hidden": hidden}
    return field(default=default, repr=not (secret or hidden), compare=not hidden, metadata=metadata)


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


def check(self: _Dataclass) -> None:
    """Hold every field against its rule; meant to be the class's ``__post_init__``.

    :raises ConfigError: naming class, option, value and what would be right.
    """
    for each in fields(self):
        rule: Rule | None = each.metadata.get("rule")
        value = getattr(self, each.name)
        if rule is not None and not rule.test(value):
            shown = "***" if each.metadata.get("secret") else value
            raise ConfigError(f"{type(self).__name__}({each.name}=...)", shown, rule.expected)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def seconds(*, above: float | None = None, least: float = 0.0) -> Rule:
    """A finite number of seconds."""
    if above is not None:
        return Rule(f"a number of seconds above {above:g}", lambda value: _is_number(value) and value > above)
    return Rule(f"a number of seconds, at least {least:g}", lambda value: _is_number(value) and value >= least)


def whole(*, least: int, most: int | None = None) -> Rule:
    """An int (and no bool) within bounds."""
    bounds = f"at least {least}" if most is None else f"{least} to {most}"
    top = math.inf if most is None else most
    return Rule(
        f"a whole number, {bounds}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= top,
    )


def one_of(choices: Collection[str]) -> Rule:
    """One of a few words."""
    return Rule("one of " + ", ".join(map(repr, choices)), lambda value: isinstance(value, str) and value in choices)


def optional(rule: Rule) -> Rule:
    """The same, or ``None``."""
    return Rule(f"{rule.expected}, or None", lambda value: value is None or rule.test(value))


def several(rule: Rule) -> Rule:
    """A tuple or list of them."""
    return Rule(
        f"a list, each {rule.expected}",
        lambda value: isinstance(value, (tuple, list)) and all(rule.test(item) for item in value),
    )


flag: Final = Rule("true or false", lambda value: isinstance(value, bool))
text: Final = Rule("a text that is not empty", lambda value: isinstance(value, str) and bool(value))
function: Final = Rule("a function", callable)
