"""Component options: dataclass fields that carry their documentation and validate their values.

Everything about an option stands in one place, at its field: the default, the rule, the documentation and the unit.
``scripts/option_docs.py`` writes the option tables of ``docs/`` and the ``:param`` lines of the class docstrings from
the fields; ``flexmw schema`` reads them too.

>>> from dataclasses import dataclass
>>> @dataclass(frozen=True, kw_only=True)
... class Audit:
...     header: str = option("x-audit", text, doc="Name of the response header.")
...     timeout: float = option(5.0, seconds(above=0), doc="Longest wait for the audit service.", unit="seconds")
...     __post_init__ = check
>>> Audit(header=3)
Traceback (most recent call last):
    ...
flexmw.errors.ConfigError: Audit(header=...) = 3: expected a text that is not empty
>>> [(option.name, option.value) for option in documentation(Audit)]
[('header', 'a text that is not empty'), ('timeout', 'a number of seconds above 0')]
"""

from __future__ import annotations

import functools
import inspect
import math
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, Final, Protocol, TypeVar

from flexmw.errors import ConfigError
from flexmw.kit.checking import check_values

__all__ = [
    "OptionDoc",
    "Rule",
    "check",
    "check_effects",
    "documentation",
    "documented",
    "flag",
    "function",
    "one_of",
    "option",
    "optional",
    "positional",
    "seconds",
    "several",
    "text",
    "whole",
]

ClassT = TypeVar("ClassT")


@dataclass(frozen=True, slots=True)
class Rule:
    """A check of one value.

    :param expected: the valid values, as words that follow "expected".
    :param test: returns whether a value is valid.
    """

    expected: str
    test: Callable[[Any], bool]


def option(
    default: Any = MISSING,
    rule: Rule | None = None,
    *,
    doc: str = "",
    unit: str = "",
    secret: bool = False,
    shown: Callable[[Any], str] | None = None,
    hidden: bool = False,
) -> Any:
    """A dataclass field for one option of a component.

    :param default: the value of the option when the caller does not give one. Without a default the option is required.
    :param rule: which values are valid; :func:`check` applies it.
    :param doc: documentation for users, in whole sentences: what the option does and what it does not do. Code is
        written in single backticks.
    :param unit: what a number counts, such as ``"seconds"`` or ``"bytes"``.
    :param secret: keep the value out of ``repr``, ``describe()`` and error messages.
    :param shown: for a secret, returns the part of a value that ``describe()`` may show.
    :param hidden: for clocks and sources of randomness: keep the option out of ``repr``, ``describe()``, the
        configuration file and comparisons.
    """
    metadata = {"rule": rule, "doc": doc, "unit": unit, "secret": secret, "shown": shown, "hidden": hidden}
    return field(default=default, repr=not (secret or hidden), compare=not hidden, metadata=metadata)


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


def check(self: _Dataclass) -> None:
    """Apply the rule of every option; use it as the ``__post_init__`` of the class.

    :raises ConfigError: naming class, option, value and what would be right.
    """
    check_values(type(self), {option.name: getattr(self, option.name) for option in fields(self)})


def check_effects(self: _Dataclass, needs: Mapping[str, tuple[object, str]]) -> None:
    """Refuse each option that has not its default and can have no effect beside the other options.

    :param needs: for the name of an option, whether it can have an effect, and what it needs, as words that follow
        "expected".
    :raises ConfigError: naming the option, its value and what it needs.
    """
    for option in fields(self):
        has_effect, need = needs.get(option.name, (True, ""))
        value = getattr(self, option.name)
        if not has_effect and value != option.default:
            raise ConfigError(f"{type(self).__name__}({option.name}=...)", value, need)


@dataclass(frozen=True, slots=True)
class OptionDoc:
    """What users read about one option. ``value`` says which values are valid, with the unit of numbers; it is empty
    where the option has no rule. ``default`` is ``dataclasses.MISSING`` for a required option."""

    name: str
    doc: str
    value: str
    default: Any
    secret: bool
    hidden: bool

    @property
    def description(self) -> str:
        """The documentation, followed by the valid values unless the option is a flag."""
        if not (self.doc and self.value):
            return self.doc or self.value
        return self.doc if self.value == flag.expected else f"{self.doc} Value: {self.value}."


def documentation(cls: type[Any]) -> list[OptionDoc]:
    """The documentation of every option of a component class, in the order of its fields; empty for a class that is
    not a dataclass."""
    return [_documentation(option) for option in fields(cls) if option.init] if is_dataclass(cls) else []


def _documentation(option: Field[Any]) -> OptionDoc:
    metadata = option.metadata
    rule: Rule | None = metadata.get("rule")
    value, unit = rule.expected if rule else "", metadata.get("unit", "")
    if unit and unit not in value:
        value = f"{value} ({unit})" if value else unit
    return OptionDoc(
        name=option.name,
        doc=metadata.get("doc", ""),
        value=value,
        default=option.default,
        secret=bool(metadata.get("secret")),
        hidden=bool(metadata.get("hidden")),
    )


def positional(name: str) -> Callable[[type[ClassT]], type[ClassT]]:
    """A class decorator for a keyword-only dataclass: positional arguments are collected in the option ``name``, in
    front of what the keyword of that name gives. The class declares ``__init__`` for type checkers.

    >>> @positional("names")
    ... @dataclass(frozen=True, kw_only=True)
    ... class Group:
    ...     names: tuple[str, ...] = ()
    >>> Group("a", names=["b"])
    Group(names=('a', 'b'))
    """

    def decorate(cls: type[ClassT]) -> type[ClassT]:
        keyword_init: Any = vars(cls)["__init__"]
        signature = inspect.signature(keyword_init)
        self, *options = signature.parameters.values()
        collected = inspect.Parameter(f"{name}_", inspect.Parameter.VAR_POSITIONAL, annotation="Any")

        @functools.wraps(keyword_init)
        def __init__(self: Any, /, *values: Any, **options: Any) -> None:  # noqa: N807
            given = options.get(name, ())
            options[name] = (*values, *(given if isinstance(given, (list, tuple)) else (given,)))
            keyword_init(self, **options)

        initializer: Any = __init__
        initializer.__signature__ = signature.replace(parameters=[self, collected, *options])
        cls.__init__ = initializer  # type: ignore[method-assign]
        return cls

    return decorate


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def seconds(*, above: float | None = None, least: float = 0.0) -> Rule:
    """A finite number of seconds."""
    if above is not None:
        return Rule(f"a number of seconds above {above:g}", lambda value: _is_number(value) and value > above)
    return Rule(f"a number of seconds, at least {least:g}", lambda value: _is_number(value) and value >= least)


def whole(*, least: int, most: int | None = None) -> Rule:
    """An int (not a bool) within bounds."""
    bounds = f"at least {least}" if most is None else f"{least} to {most}"
    top = math.inf if most is None else most
    return Rule(
        f"a whole number, {bounds}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= top,
    )


def one_of(choices: Collection[str]) -> Rule:
    """One of a few texts."""
    return Rule("one of " + ", ".join(map(repr, choices)), lambda value: isinstance(value, str) and value in choices)


def optional(rule: Rule) -> Rule:
    """A value that the rule accepts, or ``None``."""
    return Rule(f"{rule.expected}, or None", lambda value: value is None or rule.test(value))


def several(rule: Rule) -> Rule:
    """A tuple or list whose items the rule accepts."""
    return Rule(
        f"a list, each {rule.expected}",
        lambda value: isinstance(value, (tuple, list)) and all(rule.test(item) for item in value),
    )


def documented(expected: str) -> Rule:
    """A rule for the documentation alone: the component validates the option itself, because one option cannot be
    judged without another or because the check finds out more than right or wrong."""
    return Rule(expected, lambda value: True)


flag: Final = Rule("true or false", lambda value: isinstance(value, bool))
text: Final = Rule("a text that is not empty", lambda value: isinstance(value, str) and bool(value))
function: Final = Rule("a function", callable)
