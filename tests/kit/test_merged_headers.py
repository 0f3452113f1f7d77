"""The headers of the exchange are merged into a response once, by the outermost component that wraps ``send``."""

from __future__ import annotations

from typing import Any

import pytest

import flexmw
from flexmw.kit.exchange import Exchange

pytestmark = pytest.mark.anyio

HEADER = (b"x-shared", b"1")
STACKS = {
    "envelope": lambda app: flexmw.Envelope().asgi(app),
    "ratelimit": lambda app: flexmw.RateLimit("9/minute").asgi(app),
    "ratelimit with leases": lambda app: flexmw.RateLimit("9/minute", concurrency=3).asgi(app),
    "idempotency": lambda app: flexmw.Idempotency().asgi(app),
    "tagging": lambda app: flexmw.wrap_app(app, flexmw.Tagging(), flexmw.Envelope()),
    "envelope, ratelimit, idempotency": lambda app: flexmw.wrap_app(
        app, flexmw.Tagging(), flexmw.Envelope(), flexmw.RateLimit("9/minute"), flexmw.Idempotency()
    ),
    "idempotency, ratelimit, envelope": lambda app: flexmw.Idempotency().asgi(
        flexmw.RateLimit("9/minute").asgi(flexmw.Envelope().asgi(app))
    ),
    "two envelopes": lambda app: flexmw.Envelope().asgi(flexmw.Envelope().asgi(app)),
}
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
RESPONSES = {
    "body": [START, {"type": "http.response.body", "body": b"ok"}],
    "chunks": [START, {"type": "http.response.body", "body": b"o", "more_body": True}, {"type": "http.response.body"}],
    "file": [START, {"type": "http.response.pathsend", "path": "/x"}],
    "early": [
        {"type": "http.response.start", "status": 103, "headers": []},
        {"type": "http.response.body", "body": b""},
    ],
    "events": [
        {**START, "headers": [(b"content-type", b"text/event-stream")]},
        {"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True},
        {"type": "http.response.body", "body": b"data: [DONE]\n\n"},
    ],
    "error": [{**START, "status": 404}, {"type": "http.response.body", "body": b"No cat."}],
}


def http(**fields: Any) -> dict[str, Any]:
    return {"type": "http", "method": "POST", "path": "/", "headers": [(b"idempotency-key", b"k")], **fields}


async def run(app: Any, scope: dict[str, Any]) -> list[Any]:
    sent: list[Any] = []
    messages = iter([{"type": "http.request", "body": b"{}"}])

    async def receive() -> Any:
        return next(messages, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def sending(messages: list[Any]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        Exchange.of(scope).headers.append(HEADER)
        for message in messages:
            await send(message)

    return app


def shared(message: Any) -> int:
    return list(message.get("headers") or ()).count(HEADER)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("response", RESPONSES)
async def test_a_response_has_each_of_them_once_whatever_is_outermost(stack: str, response: str) -> None:
    sent = await run(STACKS[stack](sending(RESPONSES[response])), http())
    assert [shared(message) for message in sent if message["type"] == "http.response.start"] == [1]


@pytest.mark.parametrize("stack", STACKS)
async def test_they_are_merged_by_one_component(stack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    merges, complete = list[int](), Exchange.complete
    monkeypatch.setattr(Exchange, "complete", lambda *args: merges.append(1) or complete(*args))  # type: ignore[func-returns-value]
    await run(STACKS[stack](sending(RESPONSES["body"])), http())
    assert merges == [1]


@pytest.mark.parametrize("stack", [stack for stack in STACKS if stack != "idempotency"])
@pytest.mark.parametrize("kind", ["websocket.accept", "websocket.http.response.start"])
async def test_a_websocket_has_each_of_them_once(stack: str, kind: str) -> None:
    messages: list[Any] = [{"type": kind, "status": 403, "headers": []}]
    if kind != "websocket.accept":
        messages.append({"type": "websocket.http.response.body", "body": b"No."})
    scope = {"type": "websocket", "path": "/", "headers": [], "extensions": {"websocket.http.response": {}}}
    sent = await run(STACKS[stack](sending(messages)), scope)
    assert [shared(message) for message in sent if message["type"] == kind] == [1]


@pytest.mark.parametrize("stack", STACKS)
async def test_an_app_that_is_called_twice_for_one_request_has_them_each_time(stack: str) -> None:
    """Some middleware calls its app again; the exchange stays in the scope meanwhile."""
    scope, app = http(headers=[]), STACKS[stack](sending(RESPONSES["body"]))
    for _ in range(2):
        sent = await run(app, scope)
        Exchange.of(scope).headers.remove(HEADER)
        assert shared(sent[0]) == 1
    assert not Exchange.of(scope).headers_claimed


@pytest.mark.parametrize("stack", STACKS)
async def test_an_app_that_raises_leaves_the_exchange_to_the_next(stack: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert Exchange.of(scope).headers_claimed
        raise KeyError

    scope = http()
    mapping = Exchange.of(scope).map_exception
    with pytest.raises(KeyError):
        await run(STACKS[stack](app), scope)
    exchange = Exchange.of(scope)
    assert not exchange.headers_claimed
    assert not exchange.enveloped
    assert exchange.map_exception is mapping


async def test_a_component_inside_another_that_merges_gets_the_send_of_that_one() -> None:
    sends: list[Any] = []
    sent: list[Any] = []

    def recording(app: Any) -> Any:
        async def recorded(scope: Any, receive: Any, send: Any) -> None:
            sends.append(send)
            assert Exchange.of(scope).headers_claimed
            await app(scope, receive, send)

        return recorded

    async def app(scope: Any, receive: Any, send: Any) -> None:
        Exchange.of(scope).headers.append(HEADER)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    async def send(message: Any) -> None:
        sent.append(message)

    inner = flexmw.Idempotency().asgi(recording(app))
    scope = http(headers=[])
    await flexmw.Idempotency().asgi(recording(inner))(scope, None, send)
    outer_send, inner_send = sends
    assert inner_send is outer_send
    assert outer_send is not send
    assert not Exchange.of(scope).headers_claimed
    start, end = sent
    assert (start["type"], start["status"], start["headers"].count(HEADER)) == ("http.response.start", 200, 1)
    assert end == {"type": "http.response.body"}
