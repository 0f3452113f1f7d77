"""Build a component from its table of the configuration.

>>> table = Table("retry", {"attempts": 2, "deadline": {"env": "DEADLINE_UNSET", "default": 30.0}}, "flexmw.toml")
>>> build(lambda name, **options: options, table, Locations("flexmw.toml", ""))
{'attempts': 2, 'deadline': 30.0}
"""

from __future__ import annotations

import re
from collections.abc import Callable
from os.path import abspath
from typing import Any, TypeAlias

from flexmw.config.layers import Table
from flexmw.config.locations import Locations
from flexmw.config.values import from_environment, frozen, is_variable, meant_type, variable_type, variables
from flexmw.errors import ConfigError, PluginError, UnknownComponent
from flexmw.kit.checking import UNKNOWN, is_checking
from flexmw.kit.component import Component
from flexmw.kit.configured import building_from

__all__ = ["Make", "build", "place_of"]

Make: TypeAlias = Callable[..., Component]
"""Builds one component: ``make(name, **options)``."""


def place_of(locations: Locations, table: Table, key: str | None) -> str:
    """Where a table, or a key of it, is written."""
    if key in table.places:
        return table.places[key]
    return locations.of(table.path, key, table.index) if table.path else table.where


def build(make: Make, table: Table, locations: Locations) -> Component:
    """The component of a table.

    :raises ConfigError: the component refuses an option or a value, or a variable is not set. The error names file and
        line, or the override.
    :raises PluginError: the table names a plugin that cannot be used; a note names file and line.
    """
    value_of = _known_value if is_checking() else _value
    options = {key: value_of(table, key, value, locations) for key, value in table.options.items()}
    try:
        # Not the target of a link: Kubernetes replaces the target of a mounted file when it changes the file.
        file = abspath(locations.file)  # noqa: PTH100 - Path.resolve() follows links
        with building_from((file, *(table.path or (table.name,)), table.index)):
            return make(table.name, **options)
    except ConfigError as error:
        if isinstance(error, UnknownComponent):
            _check_quotes(table, locations)
        words = {*re.findall(r"\w+", error.option), error.value.strip("'")}
        key = next((key for key in table.options if key in words), None)
        raise _with_hint(error, table, key).at(place_of(locations, table, key)) from error
    except PluginError as error:
        error.add_note(f"named in {table.where}")
        raise


def _with_hint(error: ConfigError, table: Table, key: str | None) -> ConfigError:
    """The error, with the type that the file should name where a component refuses the text of a variable."""
    value: Any = table.options.get(key or "")
    is_misspelt = error.value.strip("'") == key
    kind = meant_type(value) if is_variable(value) and not is_misspelt and not is_checking() else None
    if kind is None:
        return error
    written = f'{{ env = "{value["env"]}", type = "{kind}" }}'
    return ConfigError(
        error.option, _Written(error.value), f"{error.expected}; the variable is read as text: {written}"
    )


class _Written(str):
    """A value as an error has written it already."""

    def __repr__(self) -> str:
        return str(self)


def _check_quotes(table: Table, locations: Locations) -> None:
    """TOML reads a name with a dot and without quotes as a table in a table.

    :raises ConfigError: the table looks like such a name.
    """
    *outer, _ = table.path or (table.name,)
    for key, value in table.options.items():
        if isinstance(value, dict) and not is_variable(value):
            prefix = "".join(f"{name}." for name in outer)
            name = f"{table.name}.{key}"
            expected = f'quotes around a name with a dot: [{prefix}"{name}"]'
            raise ConfigError("component", f"[{prefix}{name}]", expected, where=table.where)


def _known_value(table: Table, key: str, value: Any, locations: Locations) -> Any:
    """The value of an option in another environment: ``UNKNOWN`` where it depends on a variable."""
    found = variables(value)
    for variable in found:
        variable_type(f"{table.name}.{key}", variable, place_of(locations, table, key))
    return UNKNOWN if found else frozen(value)


def _value(table: Table, key: str, value: Any, locations: Locations) -> Any:
    """The value of an option: a list as a tuple, ``{ env = "NAME" }`` as the value of the environment variable, in
    lists and tables too."""
    if isinstance(value, list):
        return tuple(_value(table, key, item, locations) for item in value)
    if is_variable(value):
        return from_environment(f"{table.name}.{key}", value, place_of(locations, table, key))
    if isinstance(value, dict):
        return {name: _value(table, key, item, locations) for name, item in value.items()}
    return value
