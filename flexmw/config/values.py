"""Values of options that are written as text: from the environment, and from ``--set name=value``.

>>> from_text("10", "int"), from_text("yes", "bool"), from_text("10/minute, 1000/day", "list")
(10, True, ('10/minute', '1000/day'))
>>> Override.parse("ratelimit.rates=10/minute")
Override(path=('ratelimit', 'rates'), value='10/minute')
>>> Override.parse('"acme.audit".header="x"').path
('acme.audit', 'header')
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from datetime import date, time
from typing import Any, Final, NamedTuple, Self

from flexmw.errors import ConfigError

__all__ = [
    "ENV_KEYS",
    "TYPES",
    "Override",
    "from_environment",
    "from_text",
    "frozen",
    "is_variable",
    "meant_type",
    "variable_type",
    "variables",
]

ENV_KEYS: Final = ("env", "default", "type")
"""The keys of a table that stands for an environment variable."""

_TRUE: Final = ("true", "1", "yes", "on")
_FALSE: Final = ("false", "0", "no", "off")


def _bool(text: str) -> bool:
    word = text.strip().lower()
    if word not in (*_TRUE, *_FALSE):
        raise ValueError(word)
    return word in _TRUE


def _list(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _toml(text: str) -> Any:
    document = tomllib.loads(f"value = {text}")
    if set(document) != {"value"}:
        raise ValueError(text)
    return frozen(document["value"])


TYPES: Final[Mapping[str, tuple[Callable[[str], Any], str]]] = {
    "str": (str, "a text"),
    "int": (int, "a whole number"),
    "float": (float, "a number"),
    "bool": (_bool, f"one of {', '.join((*_TRUE, *_FALSE))}"),
    "list": (_list, "texts with commas between them"),
    "toml": (_toml, "a value as TOML writes it"),
}
"""For the name of a type, the function that reads a text, and the texts that it reads, as words."""


def from_text(text: str, type_name: str) -> Any:
    """Read a text as a type.

    :param type_name: a key of :data:`TYPES`.
    :raises ValueError: the text is none of that type.
    """
    return TYPES[type_name][0](text)


def is_variable(value: object) -> bool:
    """Whether a value of the file stands for an environment variable: ``{ env = "NAME" }``, also with ``default`` and
    ``type``."""
    return isinstance(value, dict) and "env" in value and set(value) <= set(ENV_KEYS)


def from_environment(option: str, table: Mapping[str, Any], where: str) -> Any:
    """The value of ``{ env = "NAME", default = ..., type = "int" }``.

    Without ``type``, the text of the variable is read as the type of ``default``; without both, it stays a text. A
    variable that is set and empty is set.

    :param option: the name of the option, for messages.
    :param where: file and line of the option.
    :raises ConfigError: the variable is not set and there is no default, it is none of the type, or the type does not
        exist. The message names the variable and never shows its value.
    """
    name: Any = table["env"]
    type_name = variable_type(option, table, where)
    text = os.environ.get(str(name))
    if text is None:
        if "default" not in table:
            raise ConfigError(option, name, "an environment variable that is set", where=where)
        return frozen(table["default"])
    try:
        return from_text(text, type_name)
    except ValueError:
        expected = f"an environment variable that holds {TYPES[type_name][1]} (type = {type_name!r})"
        raise ConfigError(option, name, expected, where=where) from None


def variable_type(option: str, table: Mapping[str, Any], where: str) -> str:
    """The name of the type that a variable is read as.

    :param option: the name of the option, for messages.
    :param where: file and line of the option.
    :raises ConfigError: the type does not exist.
    """
    type_name: Any = table.get("type", _type_of(table["default"]) if "default" in table else "str")
    if type_name not in TYPES:
        raise ConfigError(f"{option}: type", type_name, f"one of {', '.join(TYPES)}", where=where)
    return str(type_name)


def variables(value: Any) -> list[Mapping[str, Any]]:
    """The variables in a value, in lists and tables too."""
    if is_variable(value):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [found for item in inner for found in variables(item)]


def frozen(value: Any) -> Any:
    """A value of TOML with tuples in place of lists."""
    if isinstance(value, list):
        return tuple(frozen(item) for item in value)
    return {name: frozen(item) for name, item in value.items()} if isinstance(value, dict) else value


def meant_type(table: Mapping[str, Any]) -> str | None:
    """The type that the text of a variable looks like, where the file names none; ``None`` for a plain text."""
    text = os.environ.get(str(table["env"]))
    if text is None or "type" in table or "default" in table:
        return None
    for name in ("int", "float", "bool"):
        try:
            from_text(text, name)
        except ValueError:
            continue
        return name
    return "toml" if text.lstrip().startswith(("[", "{")) else "list" if "," in text else None


def _type_of(value: Any) -> str:
    kinds = {bool: "bool", int: "int", float: "float", list: "list"}
    return kinds.get(type(value), "toml" if isinstance(value, dict) else "str")


class Override(NamedTuple):
    """One ``name.option=value`` of the command line.

    :param path: the name of the component, the option, and the keys inside the option, if there are any.
    :param value: the value; ``false`` for a component switches the component off.
    """

    path: tuple[str, ...]
    value: Any

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an override. The value is TOML; what TOML cannot read is a text.

        :raises ConfigError: there is no ``=``, or the name in front of it is no name. The message shows no value.
        """
        name, equals, value = text.partition("=")
        expected = "name.option=value, such as ratelimit.rates=10/minute or retry=false"
        if not equals:
            raise ConfigError("--set", name.partition(":")[0], expected)
        try:
            path = _path(tomllib.loads(f"{name} = 0"))
        except ValueError:
            raise ConfigError("--set", name, expected) from None
        return cls(path, _value(value))


def _path(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys of a document that holds one value."""
    path: list[str] = []
    inner: Any = document
    while isinstance(inner, dict):
        ((key, inner),) = inner.items()
        path.append(key)
    return tuple(path)


def _value(text: str) -> Any:
    try:
        value = _toml(text)
    except ValueError:
        return text
    return text if isinstance(value, (date, time)) else value  # a text that looks like a date
