"""The messages of a websocket have a limit: refused ones do not reach the app."""

from __future__ import annotations

from typing import Any

import pytest

from flexmw import RateLimit
from flexmw.errors import ConfigError
from flexmw.testing import FakeClock

pytestmark = pytest.mark.anyio

TEXT = {"type": "websocket.receive", "text": "x"}


class Chat:
    """An app that accepts, echoes each message, and notes what it has received."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            message = await receive()
            self.received.append(message)
            if message["type"] == "websocket.disconnect":
                await send({"type": "websocket.send", "text": "too late"})
                return
            await send({"type": "websocket.send", "text": message["text"]})


async def connect(app: Any, *messages: dict[str, Any], key: str = "k", path: str = "/chat") -> list[dict[str, Any]]:
    """One connection that sends these messages. Returns what the server sends."""
    scope = {
        "type": "websocket", "path": path, "client": ("192.0.2.7", 1), "extensions": {},
        "headers": [(b"authorization", f"Bearer {key}".encode())],
    }  # fmt: skip
    incoming = iter([{"type": "websocket.connect"}, *messages, {"type": "websocket.disconnect", "code": 1000}])
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return next(incoming)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def kinds(sent: list[dict[str, Any]]) -> list[str]:
    return [message["type"].removeprefix("websocket.") for message in sent]


async def test_a_message_over_the_limit_closes_the_connection() -> None:
    chat = Chat()
    app = RateLimit(messages="2/minute", clock=FakeClock()).asgi(chat)
    sent = await connect(app, TEXT, TEXT, TEXT, TEXT)
    assert kinds(sent) == ["accept", "send", "send", "close"]
    assert (sent[-1]["code"], sent[-1]["reason"]) == (1008, "rate_limit_exceeded")
    assert [message["type"] for message in chat.received] == ["websocket.receive"] * 2 + ["websocket.disconnect"]


async def test_an_app_that_sends_in_a_loop_ends_when_the_limiter_has_closed_its_connection() -> None:
    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(100):  # as the handlers of Sanic do, which get None in place of a disconnect
            await send({"type": "websocket.send", "text": (await receive()).get("text") or "None"})
        raise AssertionError("it would go on for ever")

    app = RateLimit(messages="1/minute", clock=FakeClock()).asgi(echo)
    assert kinds(await connect(app, TEXT, TEXT)) == ["accept", "send", "close"]


async def test_messages_are_counted_over_all_connections_of_a_caller() -> None:
    clock = FakeClock()
    app = RateLimit("9/minute", messages="2/minute", clock=clock).asgi(Chat())
    assert kinds(await connect(app, TEXT)) == ["accept", "send", "send"]
    assert kinds(await connect(app, TEXT, TEXT)) == ["accept", "send", "close"]
    assert kinds(await connect(app, TEXT, TEXT, key="other")) == ["accept", "send", "send", "send"]
    clock.advance(120.0)
    assert kinds(await connect(app, TEXT)) == ["accept", "send", "send"]


async def test_a_function_answers_and_the_connection_stays() -> None:
    async def refused(scope: Any, error: Any) -> str:
        return f"{scope['path']} {error.headers['Retry-After']}"

    clock = FakeClock()
    chat = Chat()
    sent = await connect(
        RateLimit(messages="1/minute", message_refusal=refused, clock=clock).asgi(chat), TEXT, TEXT, TEXT
    )
    assert [message.get("text") for message in sent] == [None, "x", "/chat 61", "/chat 61", "too late"]
    assert len(chat.received) == 2
    silent = RateLimit(messages="1/minute", message_refusal=lambda scope, error: None, clock=clock)
    assert kinds(await connect(silent.asgi(Chat()), TEXT, TEXT)) == ["accept", "send", "send"]
    binary = RateLimit(messages="1/minute", message_refusal=lambda scope, error: b"no", clock=clock)
    assert (await connect(binary.asgi(Chat()), TEXT, TEXT))[2] == {"type": "websocket.send", "bytes": b"no"}


async def test_shadow_and_exempt_refuse_no_message() -> None:
    for options in ({"shadow": True}, {"exempt": "/chat"}):
        app = RateLimit(messages="1/minute", clock=FakeClock(), **options).asgi(Chat())  # type: ignore[arg-type]
        assert kinds(await connect(app, TEXT, TEXT)) == ["accept", "send", "send", "send"]


async def test_requests_are_not_counted_as_messages() -> None:
    from tests.ratelimit.calls import answering, call

    app = RateLimit(messages="1/minute", clock=FakeClock()).asgi(answering())
    assert [(await call(app)).status for _ in range(3)] == [200] * 3


@pytest.mark.parametrize(
    "options",
    [
        {"messages": "often"},
        {"messages": "0/minute"},
        {"message_refusal": print},
        {"messages": "1/s", "message_refusal": 7},
    ],
)
def test_an_option_that_cannot_work_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"RateLimit\(message"):
        RateLimit("1/minute", **options)
