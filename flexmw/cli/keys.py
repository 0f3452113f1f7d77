"""``flexmw keys``: list the idempotency keys of a store, and settle those whose outcome nobody knows."""

from __future__ import annotations

import argparse
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import anyio

from flexmw.cli.source import config_argument, load
from flexmw.cli.table import table
from flexmw.contract import redact
from flexmw.errors import ConfigError
from flexmw.idempotency.admin import PREFIX, Given, KnownKey, list_keys, resolve
from flexmw.idempotency.stores.sqlite import path_of
from flexmw.kit.store_url import mask

__all__ = ["HELP", "arguments", "command"]

HELP = "list idempotency keys, and settle those whose outcome is unknown"
_STATES: Final = ("unknown", "running", "open", "done")


def arguments(parser: argparse.ArgumentParser) -> None:
    config_argument(parser)
    parser.add_argument("--storage", metavar="URL", help="the store; without it that of [idempotency] in the file")
    parser.add_argument("--prefix", help=f"of the app's Idempotency; without it that of the file, or {PREFIX}")
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
    outcome: Any = "run"
    if arguments.answer:
        outcome = Given(body=_json(arguments.body), status=arguments.status)
    given = _of_file(arguments.config) if arguments.storage is None else (arguments.storage, PREFIX)
    storage, prefix = _seen(given[0]), arguments.prefix or given[1]
    if arguments.run or arguments.answer:
        _ask(storage, _settle, storage, arguments.run or arguments.answer, outcome, arguments.force)
        out.write("settled\n")
        return 0
    states = tuple(arguments.state or ("unknown", "running"))
    found: list[KnownKey] = _ask(storage, _found, storage, states, arguments.key, prefix)
    if arguments.json:
        out.write(json.dumps([asdict(each) for each in found], indent=2) + "\n")
    elif found:
        rows = [(each.state, each.what, each.key, _moment(each.at), str(each.status or ""), each.id) for each in found]
        out.write(table(("state", "request", "key", "claimed", "status", "id"), rows))
    else:
        out.write("no such keys\n")
    return 0


async def _found(storage: Any, states: Any, key: str | None, prefix: str) -> list[KnownKey]:
    return await list_keys(storage, states=states, key=key, prefix=prefix)


async def _settle(storage: Any, id: str, outcome: Any, force: bool) -> None:
    await resolve(storage, id, outcome, force=force)


def _of_file(config: str | None) -> tuple[Any, str]:
    """Storage and prefix of the Idempotency in the file.

    :raises ConfigError: there is no file, or it has none.
    """
    stack = load(config)
    components = () if stack is None else stack.components
    found: Any = next((each for each in components if each.name == "idempotency"), None)
    if found is None:
        raise ConfigError("flexmw keys", config, "--storage URL, or a file with a table [idempotency]")
    return found.storage, found.prefix


def _seen(storage: Any) -> Any:
    """The storage, if it is one that this process can look into. A file that is misspelled is not made.

    :raises ConfigError: it lives in another process' memory, or there is no such file.
    """
    kind = storage.partition(":")[0] if isinstance(storage, str) else ""
    if kind == "memory":
        raise ConfigError("flexmw keys", storage, "a store that more than one process can see: sqlite or redis")
    if kind == "sqlite" and not (path := path_of(storage)).exists():
        raise ConfigError("storage", storage, f"a file that is there: no process has kept keys in {path}")
    return storage


def _ask(storage: Any, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    """What a function finds in the store.

    :raises ConfigError: the store does not answer, does not let us in, or holds something else.
    """
    try:
        return anyio.run(function, *arguments)
    except ConfigError:
        raise
    except Exception as error:
        reason = redact(f"{type(error).__name__}: {error}")
        raise ConfigError("storage", mask(storage), f"a store that answers ({reason})") from error


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError("--body", text, f"valid JSON ({error})") from error


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
