"""``flexmw keys``: list the idempotency keys of a store, resolve those whose outcome is unknown, stop running ones."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, Final, TextIO

import anyio

from flexmw.cli.source import Source, source_arguments
from flexmw.cli.table import table, width_of
from flexmw.contract import redact
from flexmw.errors import ConfigError, FlexmwError
from flexmw.idempotency.admin import PREFIX, Given, KnownKey, full_id, list_keys, resolve, short_ids, stop
from flexmw.idempotency.stores import Store
from flexmw.idempotency.stores.open import open_store
from flexmw.kit.clock import SYSTEM
from flexmw.kit.identity import PEPPER_VARIABLE
from flexmw.kit.redis_errors import advice_of
from flexmw.kit.store_url import mask

__all__ = ["HELP", "age", "arguments", "command"]

HELP = "list idempotency keys, resolve those whose outcome is unknown, and stop running ones"
_STATES: Final = ("unknown", "running", "open", "done")
_UNITS: Final = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def arguments(parser: argparse.ArgumentParser) -> None:
    source_arguments(parser)
    parser.add_argument("--storage", metavar="URL", help="the store; by default the one of [idempotency] in the file")
    parser.add_argument(
        "--prefix", help=f"the prefix of the app's Idempotency; by default the one in the file, or {PREFIX}"
    )
    parser.add_argument("--state", action="append", choices=_STATES, help="only these (default: unknown and running)")
    parser.add_argument(
        "--key", help="only this key, as the caller wrote it or as it is listed; with * at its end, each that begins so"
    )
    parser.add_argument("--json", action="store_true", help="the keys as JSON")
    parser.add_argument(
        "--run", metavar="ID", help="free this key (an id, or its beginning), so that the next request with it runs"
    )
    parser.add_argument("--response", metavar="ID", help="give this key the response of --body and --status")
    parser.add_argument("--answer", metavar="ID", help=argparse.SUPPRESS)  # the old name of --response
    parser.add_argument("--stop", metavar="ID", help="end the execution of this key, which is running")
    parser.add_argument("--body", metavar="JSON", default="{}", help="the body of the response that is given")
    parser.add_argument("--status", type=int, default=200, help="the status of the response that is given")
    parser.add_argument("--force", action="store_true", help="also resolve a key that runs or has a response")


def command(arguments: argparse.Namespace, out: TextIO) -> int:
    if arguments.answer:
        sys.stderr.write("flexmw keys: --answer is now --response\n")
    responded_id = arguments.response or arguments.answer
    actions = {"--run": arguments.run, "--response": responded_id, "--stop": arguments.stop}
    given = [name for name, key_id in actions.items() if key_id]
    if len(given) > 1:
        raise ConfigError(
            "flexmw keys", " and ".join(given), "one of the two" if len(given) == 2 else "one of the three"
        )
    outcome: Any = "run"
    if responded_id:
        outcome = Given(body=_json(arguments.body), status=arguments.status)
    storage, prefix, pepper = (
        _of_file(Source.of(arguments)) if arguments.storage is None else (arguments.storage, PREFIX, None)
    )
    prefix = arguments.prefix or prefix
    key_id, given_id = "", arguments.run or responded_id or arguments.stop
    if given_id:
        key_id = _with_store(storage, lambda store: full_id(store, given_id, prefix=prefix))
    if arguments.run or responded_id:
        _with_store(storage, lambda store: resolve(store, key_id, outcome, force=arguments.force))
        out.write("settled\n")
        return 0
    if arguments.stop:
        _with_store(storage, lambda store: stop(store, key_id))
        out.write("stopping: the process that runs it ends it at its next heartbeat\n")
        return 0
    states = tuple(arguments.state or ("unknown", "running"))
    keys: list[KnownKey] = _with_store(
        storage, lambda store: list_keys(store, states=states, key=arguments.key, prefix=prefix, pepper=pepper)
    )
    ids, now = short_ids(keys), SYSTEM.now()
    if arguments.json:
        rows = [{**asdict(known), "short_id": ids[known.id], "age": now - known.at} for known in keys]
        out.write(json.dumps(rows, indent=2) + "\n")
    elif keys:
        cells = [_cells(known, ids[known.id], now) for known in keys]
        out.write(table(("state", "request", "key", "claimed", "status", "id"), cells, width=width_of(out)))
    elif arguments.key is None:
        out.write("no such keys\n")
    else:
        hint = f"is the pepper that of the app (in the file, or {PEPPER_VARIABLE})?"
        if arguments.key.endswith("*"):
            hint = "a beginning is found where Idempotency(labels=...) keeps the keys; of others the store holds a hash"
        out.write(f"no such key in state {' or '.join(states)}; {hint}\n")
    return 0


def _cells(known: KnownKey, short_id: str, now: float) -> tuple[str, str, str, str, str, str]:
    return known.state, known.what or "-", known.key, f"{age(now - known.at)} ago", str(known.status or ""), short_id


def age(seconds: float) -> str:
    """A duration in its two largest units.

    >>> age(7.6), age(200), age(7260), age(200_000)
    ('7 s', '3 min 20 s', '2 h 1 min', '2 d 7 h')
    """
    rest, parts = max(0, int(seconds)), list[str]()
    for name, size in _UNITS:
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append(f"{count} {name}")
    return " ".join(part for part in parts[:2] if not part.startswith("0 ")) or "0 s"


def _of_file(source: Source) -> tuple[Any, str, str | bytes | None]:
    """Storage, prefix and pepper of the Idempotency in the file.

    :raises ConfigError: when there is no file, or the file has no table ``[idempotency]``.
    """
    components = source.load().components
    component: Any = next((component for component in components if component.name == "idempotency"), None)
    if component is None:
        raise ConfigError("flexmw keys", source.config, "--storage URL, or a file with a table [idempotency]")
    return component.storage, component.prefix, component.pepper


def _with_store(storage: str | Store, function: Callable[[Store], Awaitable[Any]]) -> Any:
    """What a function returns for the store.

    :raises ConfigError: when the store is that of another process' memory or a file that does not exist, cannot be
        reached, refuses the credentials, or holds something else than keys.
    """

    async def run() -> Any:
        store = open_store(storage, existing=True)
        try:
            return await function(store)
        finally:
            if store is not storage:
                await store.aclose()

    try:
        return anyio.run(run)
    except FlexmwError:
        raise
    except Exception as error:
        reason = redact(advice_of(error))
        raise ConfigError("storage", mask(storage), f"a store that responds ({reason})") from error


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError("--body", text, f"valid JSON ({error})") from error
