"""Check the profiles of a file that are not chosen, so that their faults are found before somebody chooses them.

A profile belongs to another environment, so nothing of this one is assumed: no environment variable is read, no store
is contacted, no driver has to be installed. The values of an option are checked, and what one option requires of
another; in a table with a value from the environment, each option is checked alone.

>>> document = {"retry": {}, "profile": {"prod": {"retry": {"attempts": 0}}, "dev": {}}}
>>> def make(name, **options):
...     if options.get("attempts") == 0:
...         raise ConfigError("Retry(attempts=...)", 0, "a whole number, at least 1")
...     return options
>>> check_profiles(document, Locations("flexmw.toml", ""), (), make, chosen="dev")
Traceback (most recent call last):
    ...
flexmw.errors.ConfigError: flexmw.toml, line 1 (profile 'prod', not chosen): Retry(attempts=...) = 0: expected a \
whole number, at least 1
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from flexmw.config.building import Make, build
from flexmw.config.layers import Layers, profile_names
from flexmw.config.locations import Locations
from flexmw.errors import ConfigError, PluginError, UnknownComponent
from flexmw.kit.checking import only_checking
from flexmw.kit.component import Component
from flexmw.registry import check_order, sort

__all__ = ["check_profiles"]

_log: Final = logging.getLogger("flexmw.plugins")


def check_profiles(
    document: Mapping[str, Any], locations: Locations, prefix: tuple[str, ...], make: Make, *, chosen: str | None
) -> None:
    """Check all profiles but the chosen one, which is built.

    :param document: the tables of the file.
    :param locations: the lines of the file.
    :param prefix: the names that lead to the tables.
    :param make: builds one component.
    :param chosen: the name of the chosen profile; ``None`` for none.
    :raises ConfigError: a profile cannot work. The error names file, line and profile.
    """
    for profile in profile_names(document):
        if profile != chosen:
            try:
                _check(Layers(document, locations, prefix, profile=profile), make, profile)
            except ConfigError as error:
                raise _of_profile(error, profile, locations) from error


def _check(layers: Layers, make: Make, profile: str) -> None:
    if not layers.tables:
        raise ConfigError("profile", profile, "at least one component that it does not leave out")
    components: list[Component] = []
    with only_checking():
        for table in layers.tables:
            try:
                components.append(build(make, table, layers.locations))
            except PluginError as error:
                if isinstance(error, UnknownComponent) and ("." not in table.name or error.is_guessed):
                    raise
                _log.info(
                    "profile %r, which is not chosen: the table of %r is not checked, because the plugin cannot be "
                    "used here: %s", profile, table.name, error,
                )  # fmt: skip
    if len(components) == len(layers.tables):
        check_order(sort(components) if layers.is_extended else components)


def _of_profile(error: ConfigError, profile: str, locations: Locations) -> ConfigError:
    """The error, with the name of the profile behind file and line."""
    message = str(error) if error.where is None else str(error).removeprefix(f"{error.where}: ")
    error.args = (message,)
    return error.at(f"{error.where or locations.file} (profile {profile!r}, not chosen)")
