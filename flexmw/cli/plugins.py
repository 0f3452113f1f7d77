"""``flexmw plugins``: list what installed distributions provide, without importing it unless ``--load`` is given."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TextIO

from flexmw.cli.table import table
from flexmw.envelope.dialect import load
from flexmw.errors import PluginError
from flexmw.registry import BUILT_IN, dialects, installed, resolve

__all__ = ["HELP", "arguments", "command"]

HELP = "list the components that installed distributions provide"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="name, target, distribution and version of each, as JSON")
    parser.add_argument("--dialects", action="store_true", help="list error formats (dialects) instead")
    parser.add_argument("--load", action="store_true", help="import each plugin, and exit with 1 if one is broken")


def command(arguments: argparse.Namespace, out: TextIO) -> int:
    found = dialects() if arguments.dialects else installed()
    faults: dict[str, str] = {}
    if arguments.load:
        for plugin in found:
            try:
                (load if arguments.dialects else resolve)(plugin.name)
            except PluginError as error:
                faults[plugin.name] = str(error)
    if arguments.json:
        rows = [{**asdict(plugin), **_state(plugin.name, faults, loaded=arguments.load)} for plugin in found]
        out.write(json.dumps(rows, indent=2) + "\n")
        return 1 if faults else 0
    if not arguments.dialects:
        out.write(f"built in: {', '.join(BUILT_IN)}\n")
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
