"""``flexmw keys``: list the idempotency keys of a store, and settle those whose outcome nobody knows."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import anyio

from flexmw.cli.source import config_argument, load
from flexmw.cli.table import table
from flexmw.errors import ConfigError
from flexmw.idempotency.admin import Given, KnownKey, list_keys, resolve

__all__ = ["HELP", "arguments", "command"]

HELP = "list idempotency keys, and settle those whose outcome is unknown"
_STATES: Final = ("unknown", "running", "open", "done")


def arguments(parser: argparse.ArgumentParser) -> None:
    config_argument(parser)
    parser.add_argument("--storage", metavar="URL", help="the store; without it that of [idempotency] in the file")
    parser.add_argument("--state", action="append", choices=_STATES, help="only these (default: unknown and running)")
    parser.add_argument("--key", help="only keys that the callers named so")
    parser.add_argument("--json", action="store_true", help="the keys as JSON")
    parser.add_argument("--run", metavar="ID", help="free this key, so that the caller's next request runs")
    parser.add_argument("--answer", metavar="ID", help="give this key the answer of --body and --status")
    parser.add_argument("--body", metavar="JSON", default="{}", help="of the answer that is given")
    parser.add_argument("--status", type=int, default=200, help="of the answer that is given")
    parser.add_argument("--force", action="store_true", help="settle a key that runs or has an answer, too")


def command(arguments: argparse.Namespace, out: TextIO) -> int:
    if arguments.run and arguments.answer:
        raise ConfigError("flexmw keys", "--run and --answer", "one of the two")
    storage = arguments.storage or _of_file(arguments.config)
    if arguments.run or arguments.answer:
        outcome: Any = "run" if arguments.run else Given(body=_json(arguments.body), status=arguments.status)
        anyio.run(_settle, storage, arguments.run or arguments.answer, outcome, arguments.force)
        out.write("settled\n")
        return 0
    found: list[KnownKey] = anyio.run(_found, storage, tuple(arguments.state or ("unknown", "running")), arguments.key)
    if arguments.json:
        out.write(json.dumps([asdict(each) for each in found], indent=2) + "\n")
    elif found:
        rows = [(each.state, each.what, each.key, _moment(each.at), str(each.status or ""), each.id) for each in found]
        out.write(table(("state", "request", "key", "claimed", "status", "id"), rows))
    else:
        out.write("no such keys\n")
    return 0


async def _found(storage: Any, states: Any, key: str | None) -> list[KnownKey]:
    return await list_keys(storage, states=states, key=key)


async def _settle(storage: Any, id: str, outcome: Any, force: bool) -> None:
    await resolve(storage, id, outcome, force=force)


def _of_file(config: str | None) -> Any:
    """The storage of the Idempotency in the file.

    :raises ConfigError: there is no file, it has none, or its store lives in another process' memory.
    """
    stack = load(config)
    components = () if stack is None else stack.components
    storage = next((getattr(each, "storage", None) for each in components if each.name == "idempotency"), None)
    if storage is None:
        raise ConfigError("flexmw keys", config, "--storage URL, or a file with a table [idempotency]")
    if isinstance(storage, str) and storage.startswith("memory:"):
        raise ConfigError("flexmw keys", storage, "a store that more than one process can see: sqlite or redis")
    return storage


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError("--body", text, f"valid JSON ({error})") from error


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
