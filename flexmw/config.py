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

from flexmw.errors import ConfigError, PluginError, UnknownComponent
from flexmw.kit.component import Component

__all__ = ["read"]


def read(path: str | PathLike[str], make: Callable[..., Component]) -> list[Component]:
    """The components that a file describes. ``make(name, **options)`` builds one.

    :raises ConfigError: no such file, no TOML, no table, an option or a value that does not fit; with file and line.
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
    place = _Place(file, text, prefix)
    return [_build(make, name, table, nth, place) for name, table, nth in _tables(tables, place)]


class _Place:
    """Finds the line that a fault is on."""

    def __init__(self, file: Path, text: str, prefix: str) -> None:
        self.file, self.lines, self.prefix = file, text.splitlines(), prefix

    def of(self, table: str, key: str | None = None, nth: int = 0) -> str:
        """File and line of a table, of its ``nth`` one where there are several, or of a key in it."""
        name = rf"""["']?{re.escape(table)}["']?\s*"""
        line = self._line(rf"\s*\[\[?\s*{re.escape(self.prefix)}{name}[].]", nth=nth) or self._line(rf"\s*{name}[.=]")
        if key is not None:
            line = self._line(rf"""(?:[^#]*[.{{,])?\s*["']?{re.escape(key)}["']?\s*=""", after=line - 1) or line
        return f"{self.file}, line {line or 1}"

    def _line(self, pattern: str, *, after: int = 0, nth: int = 0) -> int:
        found = [n for n, text in enumerate(self.lines, 1) if n > after and re.match(pattern, text)]
        return found[min(nth, len(found) - 1)] if found else 0


def _tables(tables: dict[str, Any], place: _Place) -> Iterator[tuple[str, dict[str, Any], int]]:
    for name, value in tables.items():
        for nth, table in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(table, dict):
                raise ConfigError(name, value, f"a table: [{place.prefix}{name}]", where=place.of(name))
            yield name, table, nth


def _build(make: Callable[..., Component], name: str, table: dict[str, Any], nth: int, place: _Place) -> Component:
    options = {key: _value(name, key, value, nth, place) for key, value in table.items()}
    try:
        return make(name, **options)
    except ConfigError as error:
        if isinstance(error, UnknownComponent):
            _look_at_dots(name, table, place)
        words = {*re.findall(r"\w+", error.option), error.value.strip("'")}
        raise error.at(place.of(name, next((key for key in table if key in words), None), nth)) from error
    except PluginError as error:
        error.add_note(f"named in {place.of(name, nth=nth)}")
        raise


def _look_at_dots(name: str, table: dict[str, Any], place: _Place) -> None:
    """A name with a dot that was written without quotes is a table within a table.

    :raises ConfigError: it looks like one.
    """
    for key, value in table.items():
        if isinstance(value, dict) and set(value) != {"env"}:
            written, right = f"[{place.prefix}{name}.{key}]", f'[{place.prefix}"{name}.{key}"]'
            raise ConfigError("component", written, f"quotes around a name with a dot: {right}", where=place.of(name))


def _value(table: str, key: str, value: Any, nth: int, place: _Place) -> Any:
    """A value, or what the environment holds for ``{ env = "NAME" }``."""
    if not (isinstance(value, dict) and set(value) == {"env"}):
        return tuple(value) if isinstance(value, list) else value
    found = os.environ.get(str(value["env"]))
    if found is None:
        raise ConfigError(
            f"{table}.{key}", value["env"], "an environment variable that is set", where=place.of(table, key, nth)
        )
    return found
