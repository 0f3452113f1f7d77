"""``flexmw explain``: the resolved components, and what becomes of each status in them.

Nothing is described from memory: answers are put through the Envelope of the file, and calls through the file's
client components, in memory. Stores are not asked and nothing is sent.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, Final, TextIO

import anyio
from starlette.types import Receive, Scope, Send

from flexmw.cli.source import config_argument, load
from flexmw.cli.table import table
from flexmw.contract import STATUS, ErrorBody
from flexmw.kit.drive import chain
from flexmw.kit.effects import Send as SendEffect
from flexmw.registry import component
from flexmw.stack import Stack
from flexmw.testing.clock import FakeClock
from flexmw.testing.played import fresh, play, response_of
from flexmw.testing.visit import Visit, http_scope

__all__ = ["HELP", "arguments", "command", "server_rows"]

HELP = "show the resolved components, and what each status becomes"

_RAISED: Final[tuple[tuple[str, Exception], ...]] = (
    ("a timeout is raised", TimeoutError()),
    ("any other exception", RuntimeError()),
)
_WAIT: Final = (("retry-after", "1"),)
_OUTCOMES: Final[tuple[tuple[str, int | str, tuple[tuple[str, str], ...]], ...]] = (
    *((str(status), status, ()) for status in (400, 401, 402, 404, 408, 409, 422)),
    ("429", 429, _WAIT),
    ("500", 500, ()),
    ("502", 502, ()),
    ("503", 503, ()),
    ("503 with Retry-After", 503, _WAIT),
    ("504", 504, ()),
    ("no connection", "ConnectError", ()),
    ("answer lost", "ReadError", ()),
    ("read timeout", "ReadTimeout", ()),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    config_argument(parser)
    parser.add_argument("--json", action="store_true", help="the same as JSON")


def command(arguments: argparse.Namespace, out: TextIO) -> int:
    stack = load(arguments.config) or Stack(*map(component, ("tagging", "envelope", "retry")))
    server, client = (tuple(each for each in stack.components if hasattr(each, face)) for face in ("asgi", "flow"))
    described = stack.describe()
    answers = server_rows(server)
    calls = client_rows(client)
    if arguments.json:
        out.write(json.dumps({"components": described, "server": answers, "client": calls}, indent=2) + "\n")
        return 0
    for face in ("server", "client"):
        here = [each for each in described if face in each["faces"]]
        out.write(f"{face}, outermost first{'' if here else ': nothing'}\n")
        for each in here:
            options = ", ".join(f"{name}={value!r}" for name, value in each["options"].items())
            out.write(f"  {each['name']}({options})\n")
    if answers:
        out.write("\na bare error of the app is answered with\n")
        out.write(table(("status", "becomes", "type", "code", "message"), _cells(answers)))
    if calls:
        out.write("\na call that meets this is\n")
        out.write(table(("outcome", "GET", "POST", "POST with a key"), _cells(calls)))
    return 0


def server_rows(components: Sequence[Any]) -> list[dict[str, Any]]:
    """What each bare status of an app becomes in the Envelope among these; empty without one."""
    envelope = next((each for each in components if each.name == "envelope"), None)
    return [] if envelope is None else anyio.run(_answers, envelope)


async def _answers(envelope: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    causes: list[tuple[str, int | Exception]] = [(str(status), status) for status in sorted(STATUS)]
    for label, what in [*causes, *_RAISED]:

        async def bare(scope: Scope, receive: Receive, send: Send, what: int | Exception = what) -> None:
            if isinstance(what, Exception):
                raise what
            await send({"type": "http.response.start", "status": what, "headers": []})
            await send({"type": "http.response.body"})

        visit = Visit(http_scope())
        await visit.run(envelope.asgi(bare))
        body = ErrorBody.decode(visit.body)
        rows.append(
            {
                "status": label,
                "becomes": str(visit.status),
                "type": body.type if body else "(as it came)",
                "code": (body.code if body else None) or "",
                "message": body.message if body else "",
            }
        )
    return rows


def client_rows(components: Sequence[Any]) -> list[dict[str, Any]]:
    """Whether a call is sent again or given back after each outcome; empty without components or client library."""
    flows = [each for each in components if not hasattr(each, "around")]
    library = next((import_module(name) for name in ("httpx2", "httpx") if find_spec(name)), None)
    if not flows or library is None:
        return []
    clock = FakeClock()

    def whole_flow(request: Any) -> Any:
        return chain([fresh(each, clock) for each in flows], request)

    whole = SimpleNamespace(clock=clock, flow=whole_flow)
    requests = {
        "GET": library.Request("GET", "https://api.invalid/"),
        "POST": library.Request("POST", "https://api.invalid/", json={}),
        "POST with a key": library.Request("POST", "https://api.invalid/", json={}, headers={"idempotency-key": "k"}),
    }
    rows: list[dict[str, Any]] = []
    for label, what, headers in _OUTCOMES:
        row: dict[str, Any] = {"outcome": label}
        for kind, request in requests.items():
            first = getattr(library, what)("") if isinstance(what, str) else response_of(request, what, headers)
            row[kind] = "sent again" if play(whole, [first, 200], request).count(SendEffect) > 1 else "given back"
        rows.append(row)
    return rows


def _cells(rows: Iterable[dict[str, Any]]) -> list[list[str]]:
    return [[str(value) for value in row.values()] for row in rows]
