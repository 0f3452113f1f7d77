"""``flexmw plugins``: list what installed distributions provide, without importing it unless ``--load`` is given."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Collection
from dataclasses import asdict
from typing import Final, NamedTuple, TextIO

from flexmw.cli.table import table, width_of
from flexmw.envelope.dialect import load
from flexmw.errors import PluginError
from flexmw.idempotency.stores.open import SCHEMES, installed_stores, load_factory
from flexmw.kit.entry_points import Plugin, fault
from flexmw.ratelimit.usage_formats import FORMATS
from flexmw.ratelimit.usage_readers import installed_readers, load_reader
from flexmw.registry import BUILT_IN, dialects, installed, misnamed, resolve

__all__ = ["HELP", "arguments", "command"]

HELP = "list the components that installed distributions provide"


_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*")
"""A URL scheme (RFC 3986, section 3.1), in the lower case in which it is looked up."""


class Group(NamedTuple):
    """One group of entry points.

    :param plugins: lists what installed distributions declare.
    :param load: imports one of them, and raises ``PluginError`` when it is broken.
    :param built_in: names that flexmw provides itself.
    """

    plugins: Callable[[], tuple[Plugin, ...]]
    load: Callable[[Plugin], object]
    built_in: Collection[str] = ()


def _load_component(plugin: Plugin) -> object:
    loaded = resolve(plugin.name)
    if (error := misnamed(plugin, loaded)) is not None:
        raise error
    return loaded


def _load_dialect(plugin: Plugin) -> object:
    return load(plugin.name)


def _load_store(plugin: Plugin) -> object:
    if plugin.name in SCHEMES:
        raise fault(plugin, "has the scheme of a built-in store and is ignored", fix="Its author should choose another")
    if not _SCHEME.fullmatch(plugin.name):
        problem = "is no URL scheme in lower case, so no URL can name it"
        raise fault(plugin, problem, fix="Its author should use letters, digits, '+', '-' and '.', a letter first")
    return load_factory(plugin)


def _load_reader(plugin: Plugin) -> object:
    if plugin.name in FORMATS:
        raise fault(plugin, "has the name of a built-in reader and is ignored", fix="Its author should choose another")
    return load_reader(plugin.name, "usage")


_GROUPS: Final = {
    "components": Group(installed, _load_component, BUILT_IN),
    "dialects": Group(dialects, _load_dialect),
    "stores": Group(installed_stores, _load_store, SCHEMES),
    "usage": Group(installed_readers, _load_reader, FORMATS),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="name, target, distribution and version of each, as JSON")
    groups = parser.add_mutually_exclusive_group()
    groups.add_argument("--dialects", action="store_true", help="list error formats (dialects) instead")
    groups.add_argument("--stores", action="store_true", help="list stores of idempotency keys instead")
    groups.add_argument("--usage", action="store_true", help="list readers of usage instead")
    parser.add_argument(
        "--load", action="store_true", help="import each plugin, and exit with 1 if one is broken or cannot be named"
    )


def command(arguments: argparse.Namespace, out: TextIO) -> int:
    name = next((name for name in ("dialects", "stores", "usage") if getattr(arguments, name)), "components")
    group = _GROUPS[name]
    found = group.plugins()
    faults: dict[Plugin, str] = {}
    if arguments.load:
        for plugin in found:
            try:
                group.load(plugin)
            except PluginError as error:
                faults[plugin] = str(error)
    if arguments.json:
        rows = [{**asdict(plugin), **_state(plugin, faults, loaded=arguments.load)} for plugin in found]
        out.write(json.dumps(rows, indent=2) + "\n")
        return 1 if faults else 0
    if group.built_in:
        out.write(f"built in: {', '.join(group.built_in)}\n")
    if found:
        cells = [(plugin.name, plugin.target, f"{plugin.distribution} {plugin.version}") for plugin in found]
        out.write(table(("name", "target", "distribution"), cells, width=width_of(out)))
    else:
        out.write("no distribution provides any\n")
    for message in dict.fromkeys(faults.values()):
        out.write(f"broken: {message}\n")
    return 1 if faults else 0


def _state(plugin: Plugin, faults: dict[Plugin, str], *, loaded: bool) -> dict[str, str | None]:
    return {"fault": faults.get(plugin)} if loaded else {}
