"""An app that sends ``http.response.start`` twice: Envelope drops the second one, or cuts the response where it is an
error within a good one, and so does Idempotency. The other components pass it on."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import pytest

from flexmw import Envelope, Idempotency, RateLimit, Tagging, wrap_app
from flexmw.envelope import crash_log
from flexmw.kit.log_limit import LogLimit
from tests.wire import call, scripted

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def fresh_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash_log, "_LIMIT", LogLimit(burst=10, per_second=1.0, monotonic=time.monotonic))


def start(status: int, media_type: bytes = b"text/plain") -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": [(b"content-type", media_type)]}


def body(content: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": more}


SECOND_STARTS = {
    "before the body": (start(200), start(500), body(b"first")),
    "within the body": (start(200), body(b"fi", more=True), start(500), body(b"rst")),
    "by names of http": (start(HTTPStatus.OK), body(b"fi", more=True), start(HTTPStatus(500)), body(b"rst")),
    "after the body": (start(200), body(b"first"), start(500), body(b"second")),
    "many times": (start(200), *[start(200), body(b"first", more=True)] * 5, body(b"")),
}


@pytest.mark.parametrize("messages", SECOND_STARTS.values(), ids=SECOND_STARTS)
@pytest.mark.parametrize("component", [Tagging(), RateLimit("10/minute")], ids=lambda item: item.name)
async def test_a_second_start_passes_a_component_that_is_no_envelope(
    component: Any, messages: tuple[dict[str, Any], ...]
) -> None:
    seen = await call(component.asgi(scripted(*messages)), method="POST")
    sent = [message["status"] for message in messages if "status" in message]
    assert [message["status"] for message in seen.messages if "status" in message] == sent


@pytest.mark.parametrize("name", ["before the body", "within the body", "by names of http"])
@pytest.mark.parametrize("swallows", [False, True])
async def test_an_error_that_begins_within_a_response_leaves_it_incomplete(
    name: str, caplog: pytest.LogCaptureFixture, *, swallows: bool
) -> None:
    """A framework has sent it for a failure. Servers raise: the client of a bare app gets no complete body either."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in SECOND_STARTS[name]:
            try:
                await send(message)
            except RuntimeError:
                if not swallows:
                    raise

    seen = await call(Envelope().asgi(app))
    assert [message["status"] for message in seen.messages if "status" in message] == [200]
    assert all(message.get("more_body") for message in seen.messages[1:])
    assert isinstance(seen.raised, RuntimeError) is not swallows
    (line,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "the app has begun an error, a 500, within its response" in line.getMessage()


@pytest.mark.parametrize("components", [(Idempotency(),), (Envelope(), Idempotency())])
@pytest.mark.parametrize("swallows", [False, True])
async def test_an_error_that_begins_within_a_keyed_response_is_neither_sent_nor_replayed_as_its_end(
    components: Any, *, swallows: bool
) -> None:
    runs = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal runs
        runs += 1
        for message in SECOND_STARTS["within the body"]:
            try:
                await send(message)
            except RuntimeError:
                if not swallows:
                    raise

    keyed = wrap_app(app, *components)
    request = {"type": "http.request", "body": b"", "more_body": False}
    headers = [(b"idempotency-key", b"order-1")]
    first, replay = [await call(keyed, method="POST", headers=headers, receives=[request]) for _ in range(2)]
    assert all(message.get("more_body") for message in first.messages[1:])
    assert first.body == b"fi"
    assert (replay.status, replay.error.code, runs) == (500, "internal_error", 1)


@pytest.mark.parametrize("is_enveloped", [False, True])
async def test_an_error_that_begins_within_a_keyed_stream_is_neither_sent_nor_replayed_as_its_end(
    *, is_enveloped: bool
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start(200, b"text/event-stream"))
        await send(body(b"data: 1\n\n", more=True))
        for message in (start(500), body(b"second")):
            with suppress(RuntimeError):
                await send(message)

    keyed = wrap_app(app, *((Envelope(), Idempotency()) if is_enveloped else (Idempotency(),)))
    request = {"type": "http.request", "body": b"", "more_body": False}
    headers = [(b"idempotency-key", b"order-1")]
    first, replay = [await call(keyed, method="POST", headers=headers, receives=[request]) for _ in range(2)]
    assert b"second" not in first.body + replay.body
    assert b"internal_error" in replay.body
    assert (b"internal_error" in first.body) is is_enveloped


DROPPED = {name: messages for name, messages in SECOND_STARTS.items() if name in ("after the body", "many times")}


@pytest.mark.parametrize("messages", DROPPED.values(), ids=DROPPED)
async def test_an_envelope_drops_a_second_start_and_logs_it_once(
    messages: tuple[dict[str, Any], ...], caplog: pytest.LogCaptureFixture
) -> None:
    seen = await call(Envelope().asgi(scripted(*messages)))
    assert [message["status"] for message in seen.messages if "status" in message] == [200]
    assert seen.body.startswith(b"first")
    (line,) = [record for record in caplog.records if record.name == "flexmw.envelope"]
    assert line.levelno == logging.WARNING
    assert "the app has sent http.response.start twice" in line.getMessage()


async def test_an_envelope_keeps_the_first_of_two_errors(caplog: pytest.LogCaptureFixture) -> None:
    seen = await call(Envelope().asgi(scripted(start(404), start(500), body(b"No such order."))))
    assert (seen.status, seen.error.message) == (404, "No such order.")
    assert "with status 500" in caplog.text
