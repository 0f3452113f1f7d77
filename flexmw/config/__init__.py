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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Final

from flexmw.config.building import Make, build, place_of
from flexmw.config.layers import Layers, Table
from flexmw.config.locations import Locations
from flexmw.config.profiles import check_profiles
from flexmw.config.values import Override
from flexmw.errors import ConfigError
from flexmw.kit.component import Component

__all__ = ["PROFILE_VARIABLE", "Configuration", "load", "read"]

PROFILE_VARIABLE: Final = "FLEXMW_PROFILE"
"""The environment variable that names a profile where the caller names none."""


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
        """The same error with file and line of its option, if the option is in this configuration.

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
        return place_of(self.locations, table, key)


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

    The profiles that are not chosen are checked too; see :mod:`flexmw.config.profiles`.

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
    document = None
    if file is None:
        if chosen is not None:
            option = "--profile" if profile else PROFILE_VARIABLE
            raise ConfigError(option, chosen, "a file that has the profile: --config FILE")
        layers = Layers({name: {} for name in defaults}, Locations("the defaults", ""))
    else:
        document = _document(file)
        layers = Layers(*document, profile=chosen)
    for text in overrides:
        layers.override(Override.parse(text))
    if file is not None and not layers.tables:
        raise ConfigError("configuration file", str(file), "one table per component, such as [envelope]")
    components = tuple(build(make, table, layers.locations) for table in layers.tables)
    if document is not None:
        check_profiles(*document, make, chosen=chosen)
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
