"""The websocket's wrapper against hand-made ASGI apps: what no framework sends, on asyncio and on trio."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

import flexmw
from flexmw.kit.exchange import Exchange

pytestmark = pytest.mark.anyio

DENIAL = {"websocket.http.response": {}}
ACCEPT = {"type": "websocket.accept"}
CLOSE = {"type": "websocket.close", "code": 1000}


class Wire:
    """A server's side: what it was sent. ``receive`` gives the handshake, then what is left of ``incoming``."""

    def __init__(self, *incoming: dict[str, Any], extensions: Any = DENIAL) -> None:
        self.incoming = [{"type": "websocket.connect"}, *incoming]
        self.scope: Any = {"type": "websocket", "path": "/ws", "headers": [], "extensions": extensions}
        self.sent: list[Any] = []

    async def receive(self) -> Any:
        return self.incoming.pop(0)

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def run(self, app: Any) -> None:
        await flexmw.Envelope().asgi(app)(self.scope, self.receive, self.send)

    @property
    def answer(self) -> tuple[int, Any]:
        """The denial response."""
        start, *bodies = self.sent
        assert start["type"] == "websocket.http.response.start"
        return start["status"], json.loads(b"".join(each["body"] for each in bodies))["error"]


def sends(*messages: dict[str, Any], then: BaseException | None = None) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        for message in messages:
            await send(message)
        if then is not None:
            raise then

    return app


def denial(status: int, *chunks: bytes) -> list[dict[str, Any]]:
    start = {"type": "websocket.http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]}
    return [start, *[{"type": "websocket.http.response.body", "body": each, "more_body": True} for each in chunks]]


async def test_without_the_denial_extension_a_refusal_is_a_close_frame_of_the_hosts() -> None:
    wire = Wire(extensions=None)
    close = {"type": "websocket.close", "code": 4003, "reason": "Members only."}
    await wire.run(sends(close))
    assert wire.sent == [close]


async def test_without_the_denial_extension_an_error_is_a_close_frame_with_its_code() -> None:
    wire = Wire(extensions={})
    await wire.run(sends(then=flexmw.InvalidAPIKey()))
    assert wire.sent == [{"type": "websocket.close", "code": 1008, "reason": "invalid_api_key"}]


async def test_a_close_in_the_handler_of_a_kind_becomes_the_kind() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            raise flexmw.InsufficientCredit
        except flexmw.APIError:
            await send(CLOSE)

    wire = Wire()
    await wire.run(app)
    assert (wire.answer[0], wire.answer[1]["code"]) == (402, "402")


async def test_a_denial_of_the_hosts_is_written_anew() -> None:
    wire = Wire()
    await wire.run(sends(*denial(403), {"type": "websocket.http.response.body", "body": b"Members only."}))
    assert (wire.answer[0], wire.answer[1]["message"]) == (403, "Members only.")


@pytest.mark.parametrize("then", [None, RuntimeError("secret")])
async def test_a_denial_that_is_never_finished_is_finished(then: RuntimeError | None) -> None:
    wire = Wire()
    app = sends(*denial(403, b"Members only."), then=then)
    if then is None:
        await wire.run(app)
    else:
        with pytest.raises(RuntimeError):
            await wire.run(app)
    assert (wire.answer[0], wire.answer[1]["message"]) == (403, "Members only.")
    assert wire.sent[-1].get("more_body", False) is False


@pytest.mark.parametrize(
    ("status", "code", "reason"), [(403, 1008, "permission_denied"), (503, 1011, "service_unavailable")]
)
async def test_a_denial_after_accepting_is_a_close_frame(status: int, code: int, reason: str) -> None:
    wire = Wire()
    body = {"type": "websocket.http.response.body", "body": b"No."}
    await wire.run(sends(ACCEPT, *denial(status), body))
    assert wire.sent == [ACCEPT, {"type": "websocket.close", "code": code, "reason": reason}]


async def test_a_good_response_after_accepting_is_an_error_of_the_hosts() -> None:
    wire = Wire()
    await wire.run(sends(ACCEPT, *denial(200)))
    assert wire.sent[1:] == [{"type": "websocket.close", "code": 1011, "reason": "internal_error"}]


class Strict(Wire):
    """A server that raises after the end of a connection, as uvicorn and Hypercorn do."""

    is_over = False

    async def send(self, message: Any) -> None:
        if self.is_over:
            raise RuntimeError(f"unexpected {message['type']}")
        kind = message["type"]
        is_body = kind == "websocket.http.response.body"
        self.is_over = kind == "websocket.close" or (is_body and not message.get("more_body"))
        await super().send(message)


@pytest.mark.parametrize("late", [{"type": "websocket.send", "text": "late"}, CLOSE, ACCEPT, *denial(403)])
@pytest.mark.parametrize("first", [(ACCEPT, CLOSE), (CLOSE,)], ids=["after accepting", "before accepting"])
@pytest.mark.parametrize("extensions", [None, DENIAL], ids=["no denial", "denial"])
async def test_what_an_app_sends_after_its_own_close_is_an_error_of_the_server(
    first: Any, late: Any, extensions: Any
) -> None:
    wire = Strict(extensions=extensions)
    with pytest.raises(RuntimeError, match=f"unexpected {late['type']}"):
        await wire.run(sends(*first, late))
    assert sum(each["type"] in ("websocket.close", "websocket.http.response.start") for each in wire.sent) == 1


async def test_what_an_app_sends_after_a_denial_that_became_a_close_frame_is_dropped() -> None:
    wire = Strict()
    await wire.run(sends(ACCEPT, *denial(403, b"No."), CLOSE, {"type": "websocket.send", "text": "late"}))
    assert wire.sent == [ACCEPT, {"type": "websocket.close", "code": 1008, "reason": "permission_denied"}]


async def test_an_app_that_sends_in_a_loop_ends_by_the_servers_error_after_a_disconnect() -> None:
    class Server(Wire):
        async def send(self, message: Any) -> None:
            if message["type"] == "websocket.send":
                raise ConnectionResetError("the client has left")
            await super().send(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        assert (await receive())["type"] == "websocket.disconnect"
        for _ in range(100):
            await send({"type": "websocket.send", "text": "late"})
        raise AssertionError("it would go on for ever")

    wire = Server({"type": "websocket.disconnect", "code": 1001})
    with pytest.raises(ConnectionResetError):
        await wire.run(app)
    assert wire.sent == [ACCEPT]


async def test_nothing_is_sent_to_a_client_that_has_left() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        assert (await receive())["type"] == "websocket.disconnect"
        await send(CLOSE)
        raise RuntimeError("after the client had left")

    wire = Wire({"type": "websocket.disconnect", "code": 1001})
    with pytest.raises(RuntimeError):
        await wire.run(app)
    assert wire.sent == [ACCEPT]


async def test_a_host_that_returns_without_a_word_is_denied() -> None:
    wire = Wire()
    await wire.run(sends())
    assert (wire.answer[0], wire.answer[1]["code"]) == (500, "internal_error")
    answer = Exchange.of(wire.scope).error_outcome
    assert answer is not None
    assert answer.status == 500


async def test_leaving_an_open_websocket_closes_it() -> None:
    wire = Wire()
    await wire.run(sends(ACCEPT))
    assert wire.sent == [ACCEPT, {"type": "websocket.close", "code": 1000, "reason": ""}]


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [(flexmw.InsufficientCredit(), 1008, "402"), (flexmw.UpstreamTimeout(), 1011, "server_error")],
)
async def test_a_kind_after_accepting_is_a_close_frame(error: flexmw.APIError, code: int, reason: str) -> None:
    wire = Wire()
    await wire.run(sends(ACCEPT, then=error))
    assert wire.sent == [ACCEPT, {"type": "websocket.close", "code": code, "reason": reason}]


@pytest.mark.parametrize("framework", [FastAPI, Starlette])
@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (flexmw.ModelNotFound("m"), 1008, "model_not_found"),
        (flexmw.SubsystemOffline("billing"), 1011, "service_unavailable"),
    ],
)
async def test_a_kind_after_accepting_in_a_framework_keeps_its_code(
    framework: Any, error: flexmw.APIError, code: int, reason: str
) -> None:
    async def endpoint(socket: WebSocket) -> None:
        await socket.accept()
        raise error

    app = framework(routes=[WebSocketRoute("/ws", endpoint)])
    wire = Wire()
    wire.scope |= {"root_path": "", "query_string": b"", "subprotocols": []}
    await wire.run(app)
    assert wire.sent[1:] == [{"type": "websocket.close", "code": code, "reason": reason}]


async def test_a_disconnect_that_the_host_raises_is_no_error() -> None:
    wire = Wire()
    await wire.run(sends(ACCEPT, then=WebSocketDisconnect(1001)))
    assert wire.sent == [ACCEPT]


async def test_a_redirect_instead_of_a_websocket_passes_as_it_is() -> None:
    start = {"type": "websocket.http.response.start", "status": 307, "headers": [(b"location", b"/elsewhere")]}
    body = {"type": "websocket.http.response.body", "body": b""}
    wire = Wire()
    await wire.run(sends(start, body))
    assert wire.sent == [start, body]


async def test_messages_of_an_open_websocket_pass() -> None:
    wire = Wire()
    said = {"type": "websocket.send", "text": "hi"}
    await wire.run(sends(ACCEPT, said, CLOSE))
    assert wire.sent == [ACCEPT, said, CLOSE]


ERRORS = [{"type": "int_parsing", "loc": ("query", "room"), "msg": "Input should be a valid integer", "input": "x"}]


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("Members only.", "Members only."),
        (b"Members only.", "Members only."),
        (memoryview(b"Members only."), "Members only."),
        (ERRORS, "room: Input should be a valid integer"),
        (["one", "two"], "one; two"),
        ({"message": "Members only."}, "Members only."),
        ({"rows": 3}, "You do not have permission to do this."),
        (7, "You do not have permission to do this."),
        (object(), "You do not have permission to do this."),
        ("", "You do not have permission to do this."),
        (None, "You do not have permission to do this."),
    ],
    ids=["text", "bytes", "memoryview", "errors", "texts", "error", "object", "number", "any object", "empty", "none"],
)
async def test_a_reason_of_any_type_is_denied_with_403(reason: Any, message: str) -> None:
    wire = Wire()
    await wire.run(sends({**CLOSE, "code": 1008, "reason": reason}))
    status, error = wire.answer
    assert (status, error["message"], error["code"]) == (403, message, "permission_denied")


@pytest.mark.parametrize("extensions", [None, DENIAL], ids=["before accepting", "after accepting"])
@pytest.mark.parametrize(
    ("reason", "sent"),
    [
        (ERRORS, "room: Input should be a valid integer"),
        (b"Bye.", "Bye."),
        (7, ""),
        ("x" * 200, "x" * 123),
        ("é" * 100, "é" * 61),
        ("Bye.", "Bye."),
        ("", ""),
    ],
    ids=["a list", "bytes", "a number", "long", "long in bytes", "short", "empty"],
)
async def test_a_close_frame_has_a_reason_that_fits(extensions: Any, reason: Any, sent: str) -> None:
    wire = Wire(extensions=extensions)
    accept = [ACCEPT] if extensions else []
    await wire.run(sends(*accept, {**CLOSE, "code": 1008, "reason": reason}))
    assert wire.sent[-1] == {"type": "websocket.close", "code": 1008, "reason": sent}


async def test_a_denial_may_come_before_the_handshake_was_received() -> None:
    wire = Wire()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise flexmw.InvalidAPIKey()

    await wire.run(app)
    assert wire.answer[0] == 401
    assert len(wire.incoming) == 1
