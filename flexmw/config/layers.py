"""The layers of a configuration: the tables of the file, those of a profile, and the overrides of the command line.

A later layer replaces single options of an earlier one, adds a component, or switches one off with ``false``.

>>> document = {"retry": {"attempts": 2}, "profile": {"prod": {"retry": {"deadline": 30.0}, "tagging": {}}}}
>>> layers = Layers(document, Locations("flexmw.toml", ""), profile="prod")
>>> [(table.name, table.options) for table in layers.tables]
[('retry', {'attempts': 2, 'deadline': 30.0}), ('tagging', {})]
>>> layers.override(Override(("retry",), False))
>>> [table.name for table in layers.tables]
['tagging']
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from flexmw.config.locations import Locations
from flexmw.config.values import Override
from flexmw.errors import ConfigError

__all__ = ["PROFILES", "Layers", "Table", "profile_names"]

PROFILES: Final = "profile"
"""The table that holds the profiles. No component has this name."""


def profile_names(document: Mapping[str, Any]) -> list[str]:
    """The names of the profiles of a document whose layers were read."""
    return [*document.get(PROFILES, {})]


@dataclass(frozen=True, slots=True)
class Table:
    """The options of one component.

    :param name: the name of the component.
    :param options: the options, as TOML gives them.
    :param where: the place of the table, for messages.
    :param places: the places of the options that another layer has set.
    :param path: the names that lead to the table in the file; empty for a table that only overrides have made.
    :param index: which table, where an array has several of this name.
    """

    name: str
    options: dict[str, Any]
    where: str
    places: dict[str, str] = field(default_factory=dict[str, str])
    path: tuple[str, ...] = ()
    index: int = 0


class Layers:
    """The tables of all layers, one for each component, in the order of the file.

    :param document: the tables of the file.
    :param locations: the lines of the file.
    :param prefix: the names that lead to the tables: ``("tool", "flexmw")`` in ``pyproject.toml``.
    :param profile: the name of the profile; ``None`` for none.
    :ivar tables: one for each component.
    :ivar is_extended: whether a profile or an override has added a component.
    :raises ConfigError: something else than a table is in the place of one, or the profile does not exist.
    """

    def __init__(
        self,
        document: Mapping[str, Any],
        locations: Locations,
        prefix: tuple[str, ...] = (),
        *,
        profile: str | None = None,
    ) -> None:
        self.locations, self._prefix = locations, prefix
        self.is_extended = False
        self.tables: list[Table] = []
        for name, value in document.items():
            if name != PROFILES:
                self.tables += self._read(name, value, prefix)
        profiles = self._profiles(document)
        if profile is not None:
            if profile not in profiles:
                known = f"one of {', '.join(profiles)}" if profiles else f"a table {self._written(PROFILES, profile)}"
                raise ConfigError(PROFILES, profile, known, where=locations.file)
            for name, value in profiles[profile].items():
                self._lay(name, value, (*prefix, PROFILES, profile))

    def override(self, override: Override) -> None:
        """Lay one override over the tables.

        :raises ConfigError: the file has several components of the name and the path has no index, no component has the
            index, or the path leads into something that is no table.
        """
        name, keys = self._split(override.path)
        where = f"--set {'.'.join(override.path)}"
        index = int(keys[0]) if keys and keys[0].isdecimal() else None
        if index is not None:
            keys = keys[1:]
        if not keys:
            if override.value is not False:
                raise ConfigError(name, override.value, f"false, or an option: {name}.option=value", where=where)
            if index is None:
                self._remove(name, where)
            else:
                self.tables.remove(self._chosen(name, index, where))
            return
        table = self._chosen(name, index, where)
        options = table.options
        *outer, last = keys
        for key in outer:
            inner = options.get(key, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{name}.{key}", inner, "a table, to set one of its keys", where=where)
            options[key] = options = dict(inner)
        options[last] = override.value
        table.places[keys[0]] = where

    def _chosen(self, name: str, index: int | None, where: str) -> Table:
        """The table that an override changes. Without a table of the name, a new one.

        :param index: the index of the table in the array of its name, from 0; ``None`` where the override has none.
        :raises ConfigError: several tables have the name and the override has no index, or no table has the index.
        """
        tables = [table for table in self.tables if table.name == name]
        known = ", ".join(f"{name}.{table.index} ({table.where})" for table in tables)
        if index is not None:
            for table in tables:
                if table.index == index:
                    return table
            expected = f"the index of a table, from 0: {known or 'the configuration has none of this name'}"
            raise ConfigError(name, index, expected, where=where)
        if len(tables) > 1:
            raise ConfigError(
                "components",
                f"{len(tables)} x [[{name}]]",
                f"one table [{name}], or the index of one: {known}",
                where=where,
            )
        if not tables:
            self.is_extended = True
            self.tables.append(Table(name, {}, where))
            return self.tables[-1]
        return tables[0]

    def _read(self, name: str, value: Any, path: tuple[str, ...]) -> list[Table]:
        tables: list[Table] = []
        for index, options in enumerate(value if isinstance(value, list) else [value]):
            where = self.locations.of((*path, name), index=index)
            if not isinstance(options, dict):
                raise ConfigError(name, value, f"a table: {self._written(name, path=path)}", where=where)
            tables.append(Table(name, dict(options), where, path=(*path, name), index=index))
        return tables

    def _profiles(self, document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        profiles: Any = document.get(PROFILES, {})
        for name, value in profiles.items() if isinstance(profiles, dict) else [("name", profiles)]:
            if not isinstance(value, dict):
                where = self.locations.of((*self._prefix, PROFILES), name)
                expected = f"a table for each component, such as {self._written(PROFILES, name, 'ratelimit')}"
                raise ConfigError(f"{PROFILES}.{name}", value, expected, where=where)
        known: dict[str, dict[str, Any]] = profiles
        return known

    def _lay(self, name: str, value: Any, path: tuple[str, ...]) -> None:
        """Lay one table of a profile over the tables."""
        where = self.locations.of((*path, name))
        if value is False:
            self._remove(name, where)
            return
        replacement = self._read(name, value, path)
        places = [place for place, table in enumerate(self.tables) if table.name == name]
        if not places:
            self.tables += replacement
            self.is_extended = True
        elif isinstance(value, list):
            self.tables = [table for table in self.tables if table.name != name]
            self.tables[places[0] : places[0]] = replacement
        else:
            if len(places) > 1:
                expected = f"[[{'.'.join((*path, name))}]], which replaces all of the file's"
                raise ConfigError("components", f"{len(places)} x [[{name}]]", expected, where=where)
            table = self.tables[places[0]]
            table.options.update(replacement[0].options)
            table.places.update({key: self.locations.of((*path, name), key) for key in replacement[0].options})

    def _remove(self, name: str, where: str) -> None:
        kept = [table for table in self.tables if table.name != name]
        if len(kept) == len(self.tables):
            names = ", ".join(dict.fromkeys(table.name for table in self.tables)) or "none"
            raise ConfigError(name, False, f"the name of a component to switch off ({names})", where=where)
        self.tables = kept

    def _split(self, path: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
        """The name of a component, and the keys after it. A name with a dot needs no quotes where the file has it."""
        for length in range(len(path), 1, -1):
            name = ".".join(path[:length])
            if any(table.name == name for table in self.tables):
                return name, path[length:]
        return path[0], path[1:]

    def _written(self, *names: str, path: Sequence[str] | None = None) -> str:
        return f"[{'.'.join((*(self._prefix if path is None else path), *names))}]"
