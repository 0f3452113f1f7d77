"""Entry points: objects that installed distributions declare by name.

Listing reads the metadata of the distributions and imports none of them. Only an entry point that is loaded by name is
imported, so a broken distribution disturbs nobody who does not name it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Any, Final

from flexmw.errors import PluginError

__all__ = ["Plugin", "claim", "declared", "fault", "load", "load_target"]


_log: Final = logging.getLogger("flexmw.plugins")
_reported: Final[set[str]] = set()
"""The damaged distributions that were named in the log."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry point.

    :param name: the name of the entry point.
    :param target: the object that it names, as ``module:attribute``.
    :param distribution: the name of the distribution that declares it.
    :param version: the version of that distribution.
    """

    name: str
    target: str
    distribution: str
    version: str


def declared(group: str) -> tuple[Plugin, ...]:
    """All entry points of a group, sorted by name. Scans every installed distribution and imports none.

    A distribution whose ``entry_points.txt`` cannot be read is left out, with a WARNING that names it.
    """
    try:
        entries: Iterable[metadata.EntryPoint] = metadata.entry_points(group=group)
    except Exception:  # one damaged file of any distribution ends the scan of all
        entries = [entry for entry in _readable_entries() if entry.group == group]
    plugins = {
        Plugin(
            entry.name, entry.value, entry.dist.name if entry.dist else "?", entry.dist.version if entry.dist else "?"
        )
        for entry in entries
    }
    return tuple(sorted(plugins, key=lambda plugin: (plugin.name, plugin.distribution, plugin.target)))


def _readable_entries() -> Iterator[metadata.EntryPoint]:
    """The entry points of each distribution whose file of them can be read. Of two with one name, the first on the path
    is the one that is imported."""
    names: set[str] = set()
    for distribution in metadata.distributions():
        try:
            name = distribution.name.lower().replace("_", "-").replace(".", "-")
            entries = tuple(distribution.entry_points) if name not in names else ()
        except Exception as error:
            origin = _origin(distribution)
            if origin not in _reported:
                _reported.add(origin)
                _log.warning(
                    "the entry points of %s cannot be read (%s): its plugins are left out; repair or reinstall it",
                    origin,
                    type(error).__name__,
                )
            continue
        names.add(name)
        yield from entries


def _origin(distribution: metadata.Distribution) -> str:
    """Name and version of a distribution, or where it lies if its metadata cannot be read either."""
    try:
        return f"{distribution.name} {distribution.version}"
    except Exception:
        return str(getattr(distribution, "_path", "a distribution without metadata"))


def claim(plugins: tuple[Plugin, ...], name: str) -> Plugin | None:
    """The plugin of that name; ``None`` when there is none.

    :raises PluginError: when several distributions declare the name.
    """
    claims = [plugin for plugin in plugins if plugin.name == name]
    if len(claims) > 1:
        owners = " and ".join(f"{plugin.distribution} {plugin.version} ({plugin.target})" for plugin in claims)
        raise PluginError(name, f"claimed by {owners}", fix="Uninstall one of them")
    return claims[0] if claims else None


def load(plugin: Plugin) -> Any:
    """Import the object that a plugin names.

    :raises PluginError: when the import fails. The message names the distribution, the cause and the remedy.
    """
    try:
        return load_target(plugin.target)
    except (Exception, SystemExit) as error:  # a module that exits when it is imported would end the program
        problem = f"failed to import: {type(error).__name__}: {error}"
        fix = f"Repair or uninstall {plugin.distribution}, or do not name it"
        raise fault(plugin, problem, fix=fix) from error


def load_target(target: str) -> Any:
    """Import the object that ``module:attribute`` names."""
    module, _, attribute = target.partition(":")
    loaded: Any = import_module(module)
    for part in filter(None, attribute.split(".")):
        loaded = getattr(loaded, part)
    return loaded


def fault(plugin: Plugin, problem: str, *, fix: str) -> PluginError:
    """A :class:`PluginError` that names the plugin's target and distribution."""
    origin = f"{plugin.distribution} {plugin.version}"
    return PluginError(plugin.name, problem, target=plugin.target, distribution=origin, fix=fix)
