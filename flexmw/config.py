"""The configuration file ``flexmw.toml``: one table for each component, in order, outermost first.

::

    [tagging]
    [envelope]

    [ratelimit]
    rates = ["10/minute", "1000/day"]
    storage = { env = "REDIS_URL" }

    ["acme.audit"]
    header = "x-audit"
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from flexmw.errors import ConfigError, PluginError, UnknownComponent
from flexmw.kit.component import Component

__all__ = ["read"]


def read(path: str | PathLike[str], make: Callable[..., Component]) -> list[Component]:
    """Read a configuration file and build its components.

    :param path: a TOML file. In ``pyproject.toml`` the tables stand under ``[tool.flexmw]``.
    :param make: builds one component, as ``make(name, **options)``.
    :raises ConfigError: the file is missing, is not valid TOML, has no table, or has an option or a value that its
        component refuses. The error names the file and the line.
    :raises PluginError: a table names a plugin that cannot be used; a note names the file and the line.
    """
    file = Path(path)
    try:
        text = file.read_text("utf-8")
        tables: Any = tomllib.loads(text)
    except OSError as error:
        raise ConfigError("configuration file", str(file), f"a readable file ({error.strerror})") from error
    except ValueError as error:
        raise ConfigError("configuration file", str(file), f"valid TOML in UTF-8 ({error})") from error
    prefix = ""
    if file.name == "pyproject.toml":
        tool = tables.get("tool")
        tables, prefix = tool.get("flexmw", {}) if isinstance(tool, dict) else {}, "tool.flexmw."
    if not (isinstance(tables, dict) and tables):
        raise ConfigError("configuration file", str(file), "one table per component, such as [envelope]")
    locations = _Locations(file, text, prefix)
    return [_build(make, table, locations) for table in _tables(tables, locations)]


@dataclass(frozen=True, slots=True)
class _Table:
    """One table of the file. ``index`` counts the tables of the same name, from 0."""

    name: str
    options: dict[str, Any]
    index: int


class _Locations:
    """Finds the lines of tables and keys in a file, for error messages."""

    def __init__(self, file: Path, text: str, prefix: str) -> None:
        self.file, self.lines, self.prefix = file, text.splitlines(), prefix

    def of(self, table: str, key: str | None = None, index: int = 0) -> str:
        """The file and the line of a table, or of a key in the table.

        :param index: which table, where an array has several of this name.
        """
        name = rf"""["']?{re.escape(table)}["']?\s*"""
        header = rf"\s*\[\[?\s*{re.escape(self.prefix)}{name}[].]"
        line = self._line(header, index=index) or self._line(rf"\s*{name}[.=]")
        if key is not None:
            line = self._line(rf"""(?:[^#]*[.{{,])?\s*["']?{re.escape(key)}["']?\s*=""", after=line - 1) or line
        return f"{self.file}, line {line or 1}"

    def _line(self, pattern: str, *, after: int = 0, index: int = 0) -> int:
        """The number of a matching line, from 1; the last one where there are fewer than ``index``; 0 for none."""
        numbers = [n for n, text in enumerate(self.lines, 1) if n > after and re.match(pattern, text)]
        return numbers[min(index, len(numbers) - 1)] if numbers else 0


def _tables(tables: dict[str, Any], locations: _Locations) -> Iterator[_Table]:
    for name, value in tables.items():
        for index, options in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(options, dict):
                raise ConfigError(name, value, f"a table: [{locations.prefix}{name}]", where=locations.of(name))
            yield _Table(name, options, index)


def _build(make: Callable[..., Component], table: _Table, locations: _Locations) -> Component:
    name, index = table.name, table.index
    options = {key: _value(table, key, value, locations) for key, value in table.options.items()}
    try:
        return make(name, **options)
    except ConfigError as error:
        if isinstance(error, UnknownComponent):
            _check_quotes(table, locations)
        words = {*re.findall(r"\w+", error.option), error.value.strip("'")}
        key = next((key for key in table.options if key in words), None)
        raise error.at(locations.of(name, key, index)) from error
    except PluginError as error:
        error.add_note(f"named in {locations.of(name, index=index)}")
        raise


def _check_quotes(table: _Table, locations: _Locations) -> None:
    """TOML reads a name with a dot and without quotes as a table in a table.

    :raises ConfigError: the table looks like such a name.
    """
    for key, value in table.options.items():
        if isinstance(value, dict) and set(value) != {"env"}:
            name = f"{table.name}.{key}"
            written, quoted = f"[{locations.prefix}{name}]", f'[{locations.prefix}"{name}"]'
            where = locations.of(table.name)
            raise ConfigError("component", written, f"quotes around a name with a dot: {quoted}", where=where)


def _value(table: _Table, key: str, value: Any, locations: _Locations) -> Any:
    """The value of an option: a list as a tuple, ``{ env = "NAME" }`` as the value of the environment variable, in
    lists and tables too."""
    if isinstance(value, list):
        return tuple(_value(table, key, item, locations) for item in value)
    if not isinstance(value, dict):
        return value
    if set(value) != {"env"}:
        return {name: _value(table, key, item, locations) for name, item in value.items()}
    variable: Any = value["env"]
    text = os.environ.get(str(variable))
    if text is None:
        where = locations.of(table.name, key, table.index)
        raise ConfigError(f"{table.name}.{key}", variable, "an environment variable that is set", where=where)
    return text
