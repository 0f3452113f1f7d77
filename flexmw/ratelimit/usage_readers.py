"""The readers of usage by name: built in, or entry points of the group ``flexmw.usage``.

>>> load_reader("anthropic", "RateLimit(usage=...)")
AnthropicUsage()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from flexmw.errors import ConfigError
from flexmw.kit.entry_points import Plugin, claim, declared, fault, load
from flexmw.ratelimit.usage import Usage, UsageReader
from flexmw.ratelimit.usage_formats import FORMATS, FunctionUsage

__all__ = ["GROUP", "UsageOption", "installed_readers", "load_reader"]

GROUP: Final = "flexmw.usage"
"""The entry-point group of readers. An entry point is a class that is called without arguments."""

UsageOption: TypeAlias = str | UsageReader | Callable[[Mapping[str, Any]], Usage | int | None]


def installed_readers() -> tuple[Plugin, ...]:
    """All entry points of the group, sorted by name. Imports none of them."""
    return declared(GROUP)


def load_reader(value: UsageOption, option: str) -> UsageReader:
    """The reader of an option's value: a name, a reader, or a function of a JSON object.

    :param option: the name of the option, for the message of an error.
    :raises ConfigError: no reader has the name.
    :raises PluginError: several distributions declare the name, or it leads to no reader.
    """
    if not isinstance(value, str):
        return value if isinstance(value, UsageReader) else FunctionUsage(value)
    if value in FORMATS:
        return FORMATS[value]
    plugins = installed_readers()
    plugin = claim(plugins, value)
    if plugin is None:
        known = ", ".join(sorted({*FORMATS, *(plugin.name for plugin in plugins)}))
        raise ConfigError(option, value, f"one of {known}, the name of an entry point of {GROUP}, or a function")
    make, fix = load(plugin), f"Repair or upgrade {plugin.distribution}"
    try:
        reader = make()
    except (Exception, SystemExit) as error:
        raise fault(plugin, f"cannot be made: {type(error).__name__}: {error}", fix=fix) from error
    if not isinstance(reader, UsageReader):
        raise fault(plugin, "is no reader of usage: it lacks a member of flexmw.ratelimit.UsageReader", fix=fix)
    return reader
