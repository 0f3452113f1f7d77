"""``flexmw.toml`` as components: one table each, in order, outermost first.

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
from os import PathLike
from pathlib import Path
from typing import Any

from flexmw.errors import ConfigError, PluginError
from flexmw.kit.component import Component

__all__ = ["read"]


def read(path: str | PathLike[str], make: Callable[..., Component]) -> list[Component]:
    """The components that a file describes. ``make(name, **options)`` builds one.

    :raises ConfigError: no such file, no TOML, no table, an option or a value that does not fit; with file and line.
    """
    file = Path(path)
    try:
        text = file.read_text("utf-8")
        tables = tomllib.loads(text)
    except OSError as error:
        raise ConfigError("configuration file", str(file), f"a readable file ({error.strerror})") from error
    except ValueError as error:
        raise ConfigError("configuration file", str(file), f"valid TOML in UTF-8 ({error})") from error
    prefix = ""
    if file.name == "pyproject.toml":
        tables, prefix = tables.get("tool", {}).get("flexmw", {}), "tool.flexmw."
    if not tables:
        raise ConfigError("configuration file", str(file), "one table per component, such as [envelope]")
    return [_build(make, name, table, _Place(file, text, prefix)) for name, table in _tables(tables, file, text)]


class _Place:
    """Finds the line that a fault is on."""

    def __init__(self, file: Path, text: str, prefix: str) -> None:
        self.file, self.lines, self.prefix = file, text.splitlines(), prefix

    def of(self, table: str, key: str | None = None) -> str:
        names = (f"{self.prefix}{table}", f'{self.prefix}"{table}"', f"{self.prefix}'{table}'")
        headers = {f"[{name}]" for name in names} | {f"[[{name}]]" for name in names}
        line = next((n for n, text in enumerate(self.lines, 1) if text.split("#")[0].strip() in headers), 1)
        if key is not None:
            pattern = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*=""")
            line = next((n for n, text in enumerate(self.lines, 1) if n > line and pattern.match(text)), line)
        return f"{self.file}, line {line}"


def _tables(tables: dict[str, Any], file: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, value in tables.items():
        for table in value if isinstance(value, list) else [value]:
            if not isinstance(table, dict):
                line = next((n for n, row in enumerate(text.splitlines(), 1) if row.lstrip().startswith(name)), 1)
                raise ConfigError(name, value, f"a table: [{name}]", where=f"{file}, line {line}")
            yield name, table


def _build(make: Callable[..., Component], name: str, table: dict[str, Any], place: _Place) -> Component:
    options = {key: _value(name, key, value, place) for key, value in table.items()}
    try:
        return make(name, **options)
    except ConfigError as error:
        key = next(
            (key for key in table if key in (error.option, error.value.strip("'")) or f"({key}=" in error.option), None
        )
        raise error.at(place.of(name, key)) from error
    except PluginError as error:
        error.add_note(f"named in {place.of(name)}")
        raise


def _value(table: str, key: str, value: Any, place: _Place) -> Any:
    """A value, or what the environment holds for ``{ env = "NAME" }``."""
    if not (isinstance(value, dict) and set(value) == {"env"}):
        return tuple(value) if isinstance(value, list) else value
    found = os.environ.get(str(value["env"]))
    if found is None:
        raise ConfigError(
            f"{table}.{key}", value["env"], "an environment variable that is set", where=place.of(table, key)
        )
    return found
