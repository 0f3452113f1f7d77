from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anthropic
import pytest
from flexmw_anthropic_dialect import TYPES, Anthropic

import flexmw
from flexmw.contract import ErrorBody
from flexmw.envelope import Dialect

MESSAGE: Any = {"model": "m", "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]}

START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 0},
    },
}


def failing(error: Exception) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise error

    return app


async def read(receive: Any) -> None:
    """As an app does: over bytes that nobody has read a server ends the connection with a reset."""
    while (await receive()).get("more_body"):
        pass


async def breaks_in_the_middle(scope: Any, receive: Any, send: Any) -> None:
    await read(receive)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    event = f"event: message_start\ndata: {json.dumps(START)}\n\n".encode()
    await send({"type": "http.response.body", "body": event, "more_body": True})
    raise TimeoutError("backend 10.0.0.7")


async def ends_well(scope: Any, receive: Any, send: Any) -> None:
    await read(receive)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    stop = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    event = f"event: message_start\ndata: {json.dumps(START)}\n\n".encode() + stop
    await send({"type": "http.response.body", "body": event})
    raise RuntimeError("after the end")


def guarded(app: Any) -> Any:
    return flexmw.wrap_app(app, flexmw.Envelope(dialects=(Anthropic(),)))


ERRORS = [
    (flexmw.InvalidRequest("Too long."), anthropic.BadRequestError, "invalid_request_error", "invalid_request"),
    (flexmw.InvalidAPIKey(), anthropic.AuthenticationError, "authentication_error", "invalid_api_key"),
    (flexmw.InsufficientCredit(), anthropic.APIStatusError, "billing_error", "402"),
    (flexmw.APIError("No.", status=404), anthropic.NotFoundError, "not_found_error", "not_found"),
    (flexmw.RateLimitExceeded(3), anthropic.RateLimitError, "rate_limit_error", "rate_limit_exceeded"),
    (flexmw.UpstreamTimeout(), anthropic.InternalServerError, "api_error", "upstream_timeout"),
    (flexmw.SubsystemOffline("Vision"), anthropic.InternalServerError, "overloaded_error", "service_unavailable"),
    (RuntimeError("secret"), anthropic.InternalServerError, "api_error", "internal_error"),
]


@pytest.mark.parametrize(("error", "kind", "name", "code"), ERRORS, ids=lambda value: str(value)[:24])
def test_the_sdk_raises_its_own_error(
    serve: Callable[[Any], str], error: Exception, kind: Any, name: str, code: str
) -> None:
    url = serve(guarded(failing(error)))
    client = anthropic.Anthropic(base_url=url, api_key="k", max_retries=0)
    with client, pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(**MESSAGE)
    assert isinstance(caught.value, kind)
    body: Any = caught.value.body
    assert body["type"] == "error"
    assert (caught.value.type, caught.value.error_code) == (name, code)
    assert "secret" not in caught.value.message


def test_a_stream_that_breaks_raises_in_the_sdk(serve: Callable[[Any], str]) -> None:
    url = serve(guarded(breaks_in_the_middle))
    with anthropic.Anthropic(base_url=url, api_key="k", max_retries=0) as client:
        stream = iter(client.messages.create(**MESSAGE, stream=True))
        assert next(stream).type == "message_start"
        with pytest.raises(anthropic.APIStatusError) as caught:
            next(stream)
    assert caught.value.error_code == "upstream_timeout"
    assert "10.0.0.7" not in str(caught.value)


def test_a_stream_that_has_ended_gets_nothing_more(serve: Callable[[Any], str]) -> None:
    url = serve(guarded(ends_well))
    with anthropic.Anthropic(base_url=url, api_key="k", max_retries=0) as client:
        events = [event.type for event in client.messages.create(**MESSAGE, stream=True)]
    assert events == ["message_start", "message_stop"]


@pytest.mark.parametrize(
    ("path", "served"),
    [
        ("/v1/messages", True),
        ("/v1/messages/count_tokens", True),
        ("/v1/chat/completions", False),
        ("/messages2", False),
    ],
)
def test_it_serves_the_messages_api(path: str, served: bool) -> None:
    assert Anthropic().serves(path, "*/*") is served
    assert Anthropic(always=True).serves(path, "*/*")


def test_its_own_errors_pass_and_others_do_not() -> None:
    dialect = Anthropic()
    error = ErrorBody(message="No.", type="x", code=None)
    assert dialect.keeps(json.loads(dialect.render(error, status=400, request_id=None)))
    assert not dialect.keeps({"error": {"message": "No.", "type": "x", "code": None}})
    assert not dialect.keeps({"type": "error", "error": "No."})
    assert not dialect.keeps([])


@pytest.mark.parametrize("status", [405, 418, 501, 599, *TYPES])
def test_every_status_has_a_type(status: int) -> None:
    body = json.loads(Anthropic().render(ErrorBody(message="No.", type="x"), status=status, request_id="req_1"))
    server = {"api_error", "overloaded_error", "timeout_error"}
    assert (body["error"]["type"] in server) is (status >= 500 or status == 408)
    assert body["request_id"] == "req_1"


def test_it_is_a_dialect() -> None:
    assert isinstance(Anthropic(), Dialect)
