"""What becomes of each status in components: responses and calls that are observed in memory, on a simulated clock."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import is_dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flexmw.contract import STATUS, ErrorBody
from flexmw.kit.clock import Clock, SystemClock

__all__ = ["KEY_ORIGINS", "client_rows", "key_origin_rows", "server_rows"]

_EXCEPTIONS: Final[tuple[tuple[str, Exception], ...]] = (
    ("a timeout is raised", TimeoutError()),
    ("any other exception", RuntimeError()),
)
_WAIT: Final = {"retry-after": "1"}
_OUTCOMES: Final[tuple[tuple[str, int | str, dict[str, str]], ...]] = (
    *((str(status), status, {}) for status in (400, 401, 402, 404, 408, 409, 422)),
    ("429", 429, _WAIT),
    ("500", 500, {}),
    ("502", 502, {}),
    ("503", 503, {}),
    ("503 with Retry-After", 503, _WAIT),
    ("504", 504, {}),
    ("no connection", "ConnectError", {}),
    ("response lost", "ReadError", {}),
    ("read timeout", "ReadTimeout", {}),
)
"""A label, the status of the response or the name of the exception, and the headers of the response."""

_URL: Final = "https://api.invalid/"
_POST: Final[dict[str, Any]] = {"method": "POST", "json": {}}
_KEYED: Final[dict[str, Any]] = {**_POST, "headers": {"idempotency-key": "k"}}


KEY_ORIGINS: Final = "to key_origins"
"""The column of a POST with a key to an origin that :attr:`flexmw.Retry.key_origins` names."""


def server_rows(components: Sequence[Any]) -> list[dict[str, Any]]:
    """What the Envelope among the components makes of each bare status and of exceptions; empty without an Envelope."""
    envelope = next((component for component in components if component.name == "envelope"), None)
    return [] if envelope is None else anyio.run(_error_rows, envelope)


async def _error_rows(envelope: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    causes: list[tuple[str, int | Exception]] = [(str(status), status) for status in sorted(STATUS)]
    for label, cause in [*causes, *_EXCEPTIONS]:
        status, body = await _request(envelope.asgi(_failing_app(cause)))
        error = ErrorBody.decode(body)
        rows.append(
            {
                "status": label,
                "becomes": str(status),
                "type": error.type if error else "(as it came)",
                "code": (error.code if error else None) or "",
                "message": error.message if error else "",
            }
        )
    return rows


def _failing_app(cause: int | Exception) -> ASGIApp:
    """An app that raises the exception, or sends the status without a body."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if isinstance(cause, Exception):
            raise cause
        await send({"type": "http.response.start", "status": cause, "headers": []})
        await send({"type": "http.response.body"})

    return app


async def _request(app: ASGIApp) -> tuple[int | None, bytes]:
    """Status and body of the response to one GET request. Envelope raises an exception again after its response."""
    sent: list[Message] = []
    incoming: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/flexmw-explain",
        "raw_path": b"/flexmw-explain",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"api.invalid"), (b"accept", b"*/*")],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
        "extensions": {},
    }

    async def receive() -> Message:
        if not incoming:
            await anyio.sleep_forever()
        return incoming.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    with suppress(Exception):
        await app(scope, receive, send)
    status = next((message["status"] for message in sent if message["type"] == "http.response.start"), None)
    return status, b"".join(message.get("body", b"") for message in sent)


def client_rows(components: Sequence[Any]) -> list[dict[str, Any]]:
    """Whether a call is sent again or given back after each outcome; empty without components or client library."""
    requests: dict[str, dict[str, Any]] = {"GET": {"method": "GET"}, "POST": _POST, "POST with a key": _KEYED}
    return _outcome_rows(components, requests)


def key_origin_rows(components: Sequence[Any]) -> list[dict[str, Any]]:
    """The same of a POST with a key to an origin that Retry takes for one that honours keys; empty without Retry."""
    if not any(hasattr(component, "key_origins") for component in components):
        return []
    origin = _URL.rstrip("/")
    trusting = [
        replace(component, key_origins=tuple({*component.key_origins, origin}))
        if hasattr(component, "key_origins")
        else component
        for component in components
    ]
    return [{KEY_ORIGINS: row[KEY_ORIGINS]} for row in _outcome_rows(trusting, {KEY_ORIGINS: _KEYED})]


def _outcome_rows(components: Sequence[Any], requests: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    flows = [component for component in components if not hasattr(component, "around")]
    name = next((name for name in ("httpx2", "httpx") if find_spec(name)), None)
    if not flows or name is None:
        return []
    library = import_module(name)
    rows: list[dict[str, Any]] = []
    for label, outcome, headers in _OUTCOMES:
        row: dict[str, Any] = {"outcome": label}
        for kind, request in requests.items():
            again = _times_sent(library, flows, request, outcome, headers) > 1
            row[kind] = "sent again" if again else "given back"
        rows.append(row)
    return rows


def _times_sent(
    library: Any, components: Sequence[Any], request: dict[str, Any], outcome: int | str, headers: dict[str, str]
) -> int:
    """How often the components send a request whose first attempt has this outcome, and every further one succeeds."""
    requests: list[Any] = []

    def respond(request: Any) -> Any:
        requests.append(request)
        # A real transport reports its steps as trace events. Retry needs them as proof that a request was not sent.
        trace = request.extensions.get("trace", _no_trace)
        if len(requests) > 1:
            return library.Response(200, json={"ok": True})
        if outcome == "ConnectError":
            trace("connection.connect_tcp.failed", {})
        else:
            trace("http11.send_request_headers.started", {"request": request})
        if isinstance(outcome, str):
            raise getattr(library, outcome)("", request=request)
        return library.Response(outcome, headers=headers, json={"ok": True})

    clock = _SimulatedClock()
    transport = import_module(f"flexmw.{library.__name__}").Transport(
        *(_simulated(component, clock) for component in components),
        transport=library.MockTransport(respond),
        clock=clock,
    )
    with library.Client(transport=transport) as client, suppress(Exception):
        client.request(url=_URL, **request)
    return len(requests)


def _no_trace(event: str, details: dict[str, Any]) -> None:
    """No component observes the transport."""


class _SimulatedClock(SystemClock):
    """The system's clock, put forward by every sleep instead of waiting."""

    def __init__(self) -> None:
        self._slept = 0.0

    def now(self) -> float:
        return super().now() + self._slept

    def monotonic(self) -> float:
        return super().monotonic() + self._slept

    def sleep(self, seconds: float) -> None:
        self._slept += seconds


def _simulated(component: Any, clock: Clock) -> Any:
    """A copy of a component without what it has learned. An option ``clock`` gets the simulated clock."""
    if not is_dataclass(component) or isinstance(component, type):
        return copy.copy(component)
    has_clock = hasattr(getattr(component, "clock", None), "asleep")
    return replace(component, **({"clock": clock} if has_clock else {}))
