"""``flexmw explain``: show the resolved components, and what becomes of each status in them.

The tables are observed, not written down: responses go through the Envelope of the file, and calls through the file's
client components, all in memory and on a simulated clock. Nothing is sent over the network.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any, TextIO

from flexmw.cli.observed import KEY_ORIGINS, client_rows, key_origin_rows, server_rows
from flexmw.cli.source import Source, source_arguments
from flexmw.cli.table import paragraph, table, width_of
from flexmw.config import Configuration
from flexmw.stack import Stack

__all__ = ["HELP", "arguments", "changed", "command"]

HELP = "show the resolved components, and what each status becomes"


def arguments(parser: argparse.ArgumentParser) -> None:
    source_arguments(parser)
    parser.add_argument("--all", action="store_true", help="show every option, not only those that differ")
    parser.add_argument("--json", action="store_true", help="the same as JSON, with every option")


def command(arguments: argparse.Namespace, out: TextIO) -> int:
    source = Source.of(arguments)
    configuration = source.load("tagging", "envelope", "retry")
    stack = Stack.of(configuration)
    described: list[dict[str, Any]] = [
        {**row, "changed": changed(component)}
        for row, component in zip(stack.describe(), stack.components, strict=True)
    ]
    clients = [component for component in stack.components if hasattr(component, "flow")]
    with _unlogged():
        errors = server_rows([component for component in stack.components if hasattr(component, "asgi")])
        calls, trusted = client_rows(clients), key_origin_rows(clients)
    if arguments.json:
        shown = {
            "source": {**source._asdict(), "profile": configuration.profile},
            "components": described,
            "server": errors,
            "client": calls,
            "client_key_origins": trusted,
        }
        out.write(json.dumps(shown, indent=2) + "\n")
        return 0
    width = width_of(out)
    for side in ("server", "client"):
        rows = [row for row in described if side in row["faces"]]
        out.write(f"{side}, outermost first{'' if rows else ': nothing'}\n")
        for row in rows:
            options: dict[str, Any] = row["options"]
            names = [name for name in options if arguments.all or name in row["changed"] or name == "storage"]
            written = ", ".join(f"{name}={options[name]!r}" for name in names)
            hanging = " " * (len(row["name"]) + 3)
            out.write(paragraph(f"{row['name']}({written})", width=width, indent="  ", hanging=hanging))
    rest = "" if arguments.all else "; options that have their defaults are left out (--all shows them)"
    out.write(paragraph(f"from {_source_of(configuration, source)}{rest}", width=width))
    if errors:
        out.write("\na bare error of the app becomes\n")
        out.write(table(("status", "becomes", "type", "code", "message"), _cells(errors), width=width))
    if calls:
        out.write("\na call that meets this is\n")
        rows = [{**row, **more} for row, more in zip(calls, trusted or [{}] * len(calls), strict=True)]
        out.write(table([*rows[0]], _cells(rows), width=width))
    if trusted:
        origins = [origin for component in clients for origin in getattr(component, "key_origins", ())]
        out.write("\n" + paragraph(_about_origins(origins), width=width))
    return 0


@contextmanager
def _unlogged() -> Generator[None]:
    """Keep what components and clients log about observed calls off the terminal: nobody has made those calls."""
    handler = logging.NullHandler()
    loggers = [logging.getLogger(name) for name in ("flexmw", "httpx", "httpx2")]
    propagates = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.propagate = False
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger, before in zip(loggers, propagates, strict=True):
            logger.removeHandler(handler)
            logger.propagate = before


def _source_of(configuration: Configuration, source: Source) -> str:
    file = "the defaults, without a file" if configuration.file is None else str(configuration.file)
    profile = "" if configuration.profile is None else f", profile {configuration.profile}"
    names = [text.partition("=")[0] for text in source.overrides]
    return f"{file}{profile}" + (f", --set {', '.join(names)}" if names else "")


def _about_origins(origins: Sequence[str]) -> str:
    """What the last two columns depend on."""
    written = ", ".join(origins) or "which is empty: name the origins that honour Idempotency-Key"
    return (
        "A key makes a POST repeatable only where the server honours it. "
        f"'{KEY_ORIGINS}' is a POST with a key to an origin of Retry(key_origins=...), {written}. "
        "'POST with a key' is one to any other origin, until its responses carry Idempotency-Key-TTL."
    )


def changed(component: Any) -> list[str]:
    """The names of the options of a component that differ from their defaults."""
    if not is_dataclass(component):
        return []
    return [
        option.name
        for option in fields(component)
        if option.init and not option.metadata.get("hidden") and getattr(component, option.name) != option.default
    ]


def _cells(rows: Iterable[dict[str, Any]]) -> list[list[str]]:
    return [[str(value) for value in row.values()] for row in rows]
