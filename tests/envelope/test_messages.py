"""An application's own messages: on every error whose message is flexmw's own, whoever sends the error."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

import flexmw
from tests.wire import AppResponse, call

pytestmark = pytest.mark.anyio

MESSAGES = {
    "402": "Pay at https://shop.example/billing.",
    "internal_error": "We broke it.",
    "invalid_json": "That is not JSON.",
    "job_not_found": "Video job not found.",
    "model_not_found": "No model named {model}.",
    "not_found": "Nothing here.",
    "rate_limit_exceeded": "Too fast: wait {seconds} second{s}.",
    "service_unavailable": "{name} is away, see https://status.example.",
    "unknown_url": "No such route.",
    "upstream_timeout": "The model is slow today.",
    "idempotency_key_required": "Send an Idempotency-Key.",
}


def raising(make: Callable[[], BaseException]) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        raise make()

    return endpoint


async def broken_stream(request: Request) -> Response:
    async def events() -> Any:
        yield b"data: 1\n\n"
        raise TimeoutError

    return StreamingResponse(events(), media_type="text/event-stream")


async def body(request: Request) -> Response:
    return JSONResponse(await request.json())


CASES: dict[str, tuple[Callable[[Request], Any], int, str]] = {
    "a kind": (raising(flexmw.InsufficientCredit), 402, "Pay at https://shop.example/billing."),
    "a kind with a placeholder": (raising(lambda: flexmw.ModelNotFound("foo")), 400, "No model named foo."),
    "a kind with the app's message": (raising(lambda: flexmw.ModelNotFound("foo", message="Foo?")), 400, "Foo?"),
    "a kind with a wait": (raising(lambda: flexmw.RateLimitExceeded(2)), 429, "Too fast: wait 2 seconds."),
    "a crash": (raising(ValueError), 500, "We broke it."),
    "a timeout": (raising(TimeoutError), 500, "The model is slow today."),
    "a bare response": (lambda request: Response(status_code=404), 404, "Nothing here."),
    "a bare 429": (lambda request: Response(status_code=429), 429, "Rate limit exceeded."),
    "a bare 503": (lambda request: PlainTextResponse("Service Unavailable", 503), 503, "Service unavailable."),
    "a response with the app's message": (lambda request: PlainTextResponse("No cat.", 404), 404, "No cat."),
    "a body that is no JSON": (body, 400, "That is not JSON."),
}


def app_of(endpoint: Callable[[Request], Any]) -> Any:
    return Starlette(routes=[Route("/", endpoint, methods=["GET", "POST"])])


async def post(app: Any, *headers: tuple[bytes, bytes]) -> AppResponse:
    return await call(app, method="POST", headers=headers, receives=[{"type": "http.request", "body": b""}])


@pytest.mark.parametrize(("endpoint", "status", "message"), CASES.values(), ids=CASES)
async def test_an_error_has_the_application_s_message(endpoint: Any, status: int, message: str) -> None:
    receives = [{"type": "http.request", "body": b"{"}]
    answer = await call(flexmw.Envelope(messages=MESSAGES).asgi(app_of(endpoint)), receives=receives)
    assert (answer.status, answer.error.message) == (status, message)


async def test_an_unknown_route_of_a_framework_has_it_too() -> None:
    for app in (FastAPI(), Starlette()):
        assert (await call(flexmw.Envelope(messages=MESSAGES).asgi(app))).error.message == "No such route."


async def test_an_error_object_that_the_app_has_written_passes_unchanged() -> None:
    written = flexmw.JobNotFound().body.encode()
    app = app_of(lambda request: Response(written, 404, media_type="application/json"))
    assert (await call(flexmw.Envelope(messages=MESSAGES).asgi(app))).body == written


async def test_a_failed_stream_ends_with_it() -> None:
    answer = await call(flexmw.Envelope(messages=MESSAGES).asgi(app_of(broken_stream)))
    assert b'data: {"error":{"message":"The model is slow today."' in answer.body


async def test_an_error_that_a_framework_swallowed_has_it() -> None:
    async def swallowing(scope: Any, receive: Any, send: Any) -> None:
        flexmw.JobNotFound()
        await PlainTextResponse("Internal Server Error", 500)(scope, receive, send)

    answer = await call(flexmw.Envelope(messages=MESSAGES).asgi(swallowing))
    assert (answer.status, answer.error.message) == (404, "Video job not found.")


async def test_the_refusal_of_a_limiter_inside_has_it_and_alone_it_has_the_default() -> None:
    limited = flexmw.RateLimit("1/minute").asgi(app_of(lambda request: Response()))
    await call(limited)
    assert (await call(limited)).error.message.startswith("Rate limit exceeded. Retry after ")
    answer = await call(flexmw.Envelope(messages=MESSAGES).asgi(limited))
    assert answer.error.message == f"Too fast: wait {answer.headers['retry-after']} seconds."


async def test_the_first_response_of_a_key_and_its_replay_have_it() -> None:
    executions = 0

    def endpoint(request: Request) -> Response:
        nonlocal executions
        executions += 1
        raise flexmw.JobNotFound()

    app = flexmw.wrap_app(app_of(endpoint), flexmw.Envelope(messages=MESSAGES), flexmw.Idempotency(required=True))
    key = [(b"idempotency-key", b'"k"')]
    first, replay = [await post(app, *key) for _ in range(2)]
    assert first.body == replay.body
    assert first.error.message == "Video job not found."
    assert executions == 1
    assert (await post(app)).error.message == "Send an Idempotency-Key."


async def test_a_denied_websocket_has_it() -> None:
    async def denying(scope: Any, receive: Any, send: Any) -> None:
        raise flexmw.ModelNotFound("foo")

    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    extensions: dict[str, Any] = {"websocket.http.response": {}}
    scope = {"type": "websocket", "path": "/", "headers": [], "extensions": extensions}
    await flexmw.Envelope(messages=MESSAGES).asgi(denying)(scope, receive, send)
    assert json.loads(sent[1]["body"])["error"]["message"] == "No model named foo."


def test_a_client_gives_it_to_the_errors_that_it_translates() -> None:
    page = httpx.Response(404, headers={"content-type": "text/html"}, content=b"<h1>404</h1>nginx")
    mock = httpx.MockTransport(lambda request: page)
    transport = flexmw.httpx.Transport(flexmw.Envelope(messages=MESSAGES), transport=mock)
    with httpx.Client(transport=transport) as client:
        assert client.get("http://upstream/").json()["error"]["message"] == "Nothing here."


@pytest.mark.parametrize(
    ("messages", "option", "expected"),
    [
        ({"job_not_fund": "No."}, "Envelope(messages={'job_not_fund': ...})", "did you mean 'job_not_found'?"),
        ({"402": "Pay {amount}."}, "Envelope(messages={'402': ...})", "no placeholder {amount}"),
        ({"402": ""}, "Envelope(messages={'402': ...})", "a text that is not empty"),
        (["402"], "Envelope(messages=...)", "a table of messages by error code, or None"),
    ],
)
def test_a_message_that_cannot_work_is_refused_at_once(messages: Any, option: str, expected: str) -> None:
    with pytest.raises(flexmw.ConfigError) as caught:
        flexmw.Envelope(messages=messages)
    assert caught.value.option == option
    assert expected in caught.value.expected


def test_a_change_of_the_table_after_the_fact_changes_nothing() -> None:
    envelope = flexmw.Envelope(messages=MESSAGES)
    assert pickle.loads(pickle.dumps(envelope)) == copy.deepcopy(envelope) == envelope


async def test_a_file_holds_a_table_of_messages(tmp_path: Path) -> None:
    file = tmp_path / "flexmw.toml"
    file.write_text('[envelope.messages]\n"402" = "Pay up."\n')
    app = flexmw.Stack.load(file).wrap_app(app_of(raising(flexmw.InsufficientCredit)))
    assert (await call(app)).error.message == "Pay up."
    file.write_text('[envelope]\nrequest_id = "x-id"\n\n[envelope.messages]\n"409" = "No."\n')
    with pytest.raises(flexmw.ConfigError, match=r"flexmw\.toml, line 1: .*'409'.*to be one of"):
        flexmw.Stack.load(file)
