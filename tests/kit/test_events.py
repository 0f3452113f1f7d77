"""Every event is a row of the table, and carries what its row says."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import anyio
import httpx
import pytest

import flexmw
from flexmw.kit.events import ERROR_DECIDED, EVENTS, ErrorOutcome, error_decided
from flexmw.kit.exchange import Exchange
from flexmw.testing import FakeClock, HostileServer
from flexmw.testing.hostile import closed_port

PACKAGE = Path(flexmw.__file__).parent
Seen = list[tuple[str, Mapping[str, Any]]]


def emitted(tree: ast.AST) -> Iterator[tuple[str, list[str] | None]]:
    """Each event that a module emits by a literal name, with the keys of its details where these are literal too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and len(node.args) >= 2 and isinstance(name := node.args[0], ast.Constant):
            function = ast.unparse(node.func).rpartition(".")[2]
            if function in ("emit", "Emit", "_emit_event", "_event") and str(name.value).startswith("flexmw."):
                details = node.args[1]
                is_literal = isinstance(details, ast.Dict) and function != "_event"
                yield name.value, [ast.literal_eval(key) for key in details.keys] if is_literal else None  # type: ignore[attr-defined]


def test_every_event_that_a_component_emits_is_a_row_with_the_keys_that_it_has() -> None:
    found = [pair for path in sorted(PACKAGE.rglob("*.py")) for pair in emitted(ast.parse(path.read_text("utf-8")))]
    assert len({name for name, _ in found}) >= 7
    for name, keys in found:
        assert name in EVENTS, name
        assert keys is None or set(keys) == EVENTS[name].details.__annotations__.keys(), name


def check(seen: Seen, *names: str) -> None:
    """The events were observed, and each has exactly the keys and the types of its row."""
    assert set(names) <= {event for event, _ in seen}
    for event, details in seen:
        if event in names:
            hints = get_type_hints(EVENTS[event].details)
            assert details.keys() == hints.keys(), event
            for key, hint in hints.items():
                assert isinstance(details[key], hint), f"{event}: {key}"


class Observer:
    """A component that keeps the events of the components further inward."""

    name = "observer"

    def __init__(self) -> None:
        self.seen: Seen = []

    def flow(self, request: Any) -> Any:
        return (yield flexmw.Send(request, lambda event, details: self.seen.append((event, details))))


def test_the_events_of_a_client_carry_what_their_rows_say() -> None:
    observer, clock = Observer(), FakeClock()
    transport = httpx.MockTransport(lambda request: httpx.Response(503, headers={"retry-after": "1"}))
    components = (observer, flexmw.Retry(attempts=2, clock=clock))
    with httpx.Client(transport=flexmw.httpx.Transport(*components, transport=transport, clock=clock)) as client:
        client.get("https://api.test/")
    check(observer.seen, "flexmw.retry.scheduled", "flexmw.retry.stopped")


def test_pace_says_how_long_it_has_waited() -> None:
    observer, clock = Observer(), FakeClock()
    headers = {"x-ratelimit-limit": "1", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "2"}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, headers=headers))
    components = (observer, flexmw.Pace(clock=clock))
    with httpx.Client(transport=flexmw.httpx.Transport(*components, transport=transport, clock=clock)) as client:
        for _ in range(2):
            client.get("https://api.test/")
    check(observer.seen, "flexmw.pace.waited")


def serve(app: Any, *components: Any, scope: Mapping[str, Any] | None = None) -> Seen:
    """The events of one request."""
    seen: Seen = []
    wrapped = flexmw.wrap_app(app, *components)

    async def observed(scope: Any, receive: Any, send: Any) -> None:
        Exchange.of(scope).subscribe(lambda event, details: seen.append((event, details)))
        await wrapped(scope, receive, send)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"{}"}

    async def send(message: Any) -> None: ...

    request = {"type": "http", "method": "POST", "path": "/", "headers": [(b"idempotency-key", b"k")], **(scope or {})}
    anyio.run(observed, request, receive, send)
    return seen


async def not_found(scope: Any, receive: Any, send: Any) -> None:
    raise flexmw.JobNotFound()


@pytest.fixture
def dead_store() -> Iterator[str]:
    with closed_port() as url:
        yield url.replace("http", "redis")


def test_the_events_of_a_server_carry_what_their_rows_say(dead_store: str) -> None:
    limit = flexmw.RateLimit("10/minute", storage=dead_store, on_store_failure="local")
    seen = serve(not_found, flexmw.Envelope(), limit)
    names = ("flexmw.error.decided", "flexmw.rate_limiting.decided", "flexmw.rate_limiting.storage_failed")
    check(seen, *names)


def test_a_store_of_keys_that_fails_is_an_event(dead_store: str) -> None:
    keys = flexmw.Idempotency(storage=dead_store, on_store_failure="run")
    check(serve(not_found, flexmw.Envelope(), keys), "flexmw.idempotency.store_failed")


def test_a_transport_into_an_app_says_that_it_is_one() -> None:
    observer = Observer()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def call() -> None:
        transport = flexmw.httpx.AsyncTransport(observer, transport=httpx.ASGITransport(app))
        async with httpx.AsyncClient(transport=transport) as client:
            await client.get("http://app/")

    anyio.run(call)
    check(observer.seen, "flexmw.transport.in_process")


def test_the_events_of_the_transport_reach_an_observer_too() -> None:
    observer = Observer()
    with HostileServer() as server, httpx.Client(transport=flexmw.httpx.Transport(observer)) as client:
        client.get(server.url)
    assert "http11.send_request_headers.started" in {event for event, _ in observer.seen}


def test_the_old_name_of_the_error_event_still_compares_and_says_that_it_is_old() -> None:
    with pytest.warns(DeprecationWarning, match=r"flexmw\.answer is now flexmw\.error\.decided"):
        assert ERROR_DECIDED == "flexmw.answer"
    with pytest.warns(DeprecationWarning, match=r"flexmw\.answer is now"):
        assert not ERROR_DECIDED != "flexmw.answer"  # noqa: SIM202
    assert ERROR_DECIDED == "flexmw.error.decided"
    assert ERROR_DECIDED != "flexmw.retry.stopped"
    assert {ERROR_DECIDED: 1}["flexmw.error.decided"] == 1


def test_the_old_key_of_the_error_event_still_reads_and_says_that_it_is_old() -> None:
    outcome = ErrorOutcome(404)
    details: Any = error_decided(outcome)
    assert details == {"outcome": outcome}
    with pytest.warns(DeprecationWarning, match=r"details\['answer'\] of an event is now details\['outcome'\]"):
        assert details["answer"] is outcome
    with pytest.raises(KeyError, match="status"):
        _ = details["status"]
