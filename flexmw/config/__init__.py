"""The configuration file ``flexmw.toml``: one table for each component, in order, outermost first.

::

    [tagging]
    [envelope]

    [ratelimit]
    rates = ["10/minute", "1000/day"]
    storage = { env = "REDIS_URL", default = "memory://" }
    concurrency = { env = "CONCURRENCY", type = "int", default = 20 }

    ["acme.audit"]
    header = "x-audit"

    [profile.prod.ratelimit]
    storage = "redis://cache:6379"

Private: users load a file with :meth:`flexmw.Stack.load`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Final

from flexmw.config.layers import Layers, Table
from flexmw.config.locations import Locations
from flexmw.config.values import Override, from_environment, is_variable, meant_type
from flexmw.errors import ConfigError, PluginError, UnknownComponent
from flexmw.kit.component import Component

__all__ = ["PROFILE_VARIABLE", "Configuration", "load", "read"]

PROFILE_VARIABLE: Final = "FLEXMW_PROFILE"
"""The environment variable that names a profile where the caller names none."""

Make = Callable[..., Component]


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a file, a profile and overrides say.

    :param file: the file; ``None`` without one.
    :param profile: the name of the profile; ``None`` without one.
    :param components: outermost first, as they are written.
    :param tables: the table of each component.
    :param locations: the lines of the file.
    :param is_extended: a profile or an override has added a component, whose place the file does not show.
    """

    file: Path | None
    profile: str | None
    components: tuple[Component, ...]
    tables: tuple[Table, ...]
    locations: Locations
    is_extended: bool

    def located(self, error: ConfigError) -> ConfigError:
        """The error with file and line of the option that it names, where it names one of this configuration.

        A store that does not respond is found when an app or a client is wrapped, long after the file was read.
        """
        if error.where is not None or self.file is None:
            return error
        words = {*re.findall(r"\w+", error.option)}
        named = [
            table
            for component, table in zip(self.components, self.tables, strict=True)
            if type(component).__name__ in words or table.name in words
        ]
        key = next((key for table in named for key in table.options if key in words), None)
        holding = [table for table in named if key is None or key in table.options]
        return error.at(self.place(holding[0], key) if len(holding) == 1 else str(self.file))

    def place(self, table: Table, key: str | None) -> str:
        """Where a table, or a key of it, is written."""
        return _place(self.locations, table, key)


def read(path: str | PathLike[str], make: Make) -> list[Component]:
    """The components of a file; see :func:`load`."""
    return [*load(path, make).components]


def load(
    path: str | PathLike[str] | None,
    make: Make,
    *,
    profile: str | None = None,
    overrides: Iterable[str] = (),
    defaults: Sequence[str] = (),
) -> Configuration:
    """Read a configuration file and build its components.

    :param path: a TOML file. In ``pyproject.toml`` the tables stand under ``[tool.flexmw]``. ``None`` reads no file.
    :param make: builds one component, as ``make(name, **options)``.
    :param profile: the name of a profile of the file; ``None`` takes ``FLEXMW_PROFILE`` from the environment.
    :param overrides: texts ``name.option=value`` that replace values of the file.
    :param defaults: the names of the components without a file.
    :raises ConfigError: the file is missing, is not valid TOML, has no table or no such profile, or has an option or a
        value that its component refuses. The error names the file and the line, or the override.
    :raises PluginError: a table names a plugin that cannot be used; a note names the file and the line.
    """
    chosen = profile or os.environ.get(PROFILE_VARIABLE) or None
    file = None if path is None else Path(path)
    if file is None:
        if chosen is not None:
            option = "--profile" if profile else PROFILE_VARIABLE
            raise ConfigError(option, chosen, "a file that has the profile: --config FILE")
        layers = Layers({name: {} for name in defaults}, Locations("the defaults", ""))
    else:
        layers = Layers(*_document(file), profile=chosen)
    for text in overrides:
        layers.override(Override.parse(text))
    if file is not None and not layers.tables:
        raise ConfigError("configuration file", str(file), "one table per component, such as [envelope]")
    components = tuple(_build(make, table, layers.locations) for table in layers.tables)
    return Configuration(file, chosen, components, tuple(layers.tables), layers.locations, layers.is_extended)


def _document(file: Path) -> tuple[dict[str, Any], Locations, tuple[str, ...]]:
    """The tables of a file, its lines, and the names that lead to the tables."""
    try:
        text = file.read_text("utf-8")
        tables: Any = tomllib.loads(text)
    except OSError as error:
        raise ConfigError("configuration file", str(file), f"a readable file ({error.strerror})") from error
    except ValueError as error:
        raise ConfigError("configuration file", str(file), f"valid TOML in UTF-8 ({error})") from error
    prefix: tuple[str, ...] = ()
    if file.name == "pyproject.toml":
        tool = tables.get("tool")
        tables, prefix = tool.get("flexmw", {}) if isinstance(tool, dict) else {}, ("tool", "flexmw")
    if not (isinstance(tables, dict) and tables):
        raise ConfigError("configuration file", str(file), "one table per component, such as [envelope]")
    return tables, Locations(str(file), text), prefix


def _place(locations: Locations, table: Table, key: str | None) -> str:
    if key in table.places:
        return table.places[key]
    return locations.of(table.path, key, table.index) if table.path else table.where


def _build(make: Make, table: Table, locations: Locations) -> Component:
    options = {key: _value(table, key, value, locations) for key, value in table.options.items()}
    try:
        return make(table.name, **options)
    except ConfigError as error:
        if isinstance(error, UnknownComponent):
            _check_quotes(table, locations)
        words = {*re.findall(r"\w+", error.option), error.value.strip("'")}
        key = next((key for key in table.options if key in words), None)
        raise _with_hint(error, table, key).at(_place(locations, table, key)) from error
    except PluginError as error:
        error.add_note(f"named in {table.where}")
        raise


def _with_hint(error: ConfigError, table: Table, key: str | None) -> ConfigError:
    """The error, with the type that the file should name where a component refuses the text of a variable."""
    value: Any = table.options.get(key or "")
    kind = meant_type(value) if is_variable(value) else None
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


def _value(table: Table, key: str, value: Any, locations: Locations) -> Any:
    """The value of an option: a list as a tuple, ``{ env = "NAME" }`` as the value of the environment variable, in
    lists and tables too."""
    if isinstance(value, list):
        return tuple(_value(table, key, item, locations) for item in value)
    if is_variable(value):
        return from_environment(f"{table.name}.{key}", value, _place(locations, table, key))
    if isinstance(value, dict):
        return {name: _value(table, key, item, locations) for name, item in value.items()}
    return value
