"""``flexmw plugins``: list what installed distributions provide, without importing it unless ``--load`` is given."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Collection
from dataclasses import asdict
from typing import Final, NamedTuple, TextIO

from flexmw.cli.table import table
from flexmw.envelope.dialect import load
from flexmw.errors import PluginError
from flexmw.idempotency.stores.open import SCHEMES, installed_stores, load_factory
from flexmw.kit.entry_points import Plugin
from flexmw.registry import BUILT_IN, dialects, installed, resolve

__all__ = ["HELP", "arguments", "command"]

HELP = "list the components that installed distributions provide"


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
    return resolve(plugin.name)


def _load_dialect(plugin: Plugin) -> object:
    return load(plugin.name)


_GROUPS: Final = {
    "components": Group(installed, _load_component, BUILT_IN),
    "dialects": Group(dialects, _load_dialect),
    "stores": Group(installed_stores, load_factory, SCHEMES),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="name, target, distribution and version of each, as JSON")
    groups = parser.add_mutually_exclusive_group()
    groups.add_argument("--dialects", action="store_true", help="list error formats (dialects) instead")
    groups.add_argument("--stores", action="store_true", help="list stores of idempotency keys instead")
    parser.add_argument("--load", action="store_true", help="import each plugin, and exit with 1 if one is broken")


def command(arguments: argparse.Namespace, out: TextIO) -> int:
    group = _GROUPS["dialects" if arguments.dialects else "stores" if arguments.stores else "components"]
    found = group.plugins()
    faults: dict[str, str] = {}
    if arguments.load:
        for plugin in found:
            try:
                group.load(plugin)
            except PluginError as error:
                faults[plugin.name] = str(error)
    if arguments.json:
        rows = [{**asdict(plugin), **_state(plugin.name, faults, loaded=arguments.load)} for plugin in found]
        out.write(json.dumps(rows, indent=2) + "\n")
        return 1 if faults else 0
    if group.built_in:
        out.write(f"built in: {', '.join(group.built_in)}\n")
    if found:
        cells = [(each.name, each.target, f"{each.distribution} {each.version}") for each in found]
        out.write(table(("name", "target", "distribution"), cells))
    else:
        out.write("no distribution provides any\n")
    for fault in faults.values():
        out.write(f"broken: {fault}\n")
    return 1 if faults else 0


def _state(name: str, faults: dict[str, str], *, loaded: bool) -> dict[str, str | None]:
    return {"fault": faults.get(name)} if loaded else {}
