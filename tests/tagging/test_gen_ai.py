"""Attributes of requests to language models: what the head and the frame of the messages say, and no content."""

from __future__ import annotations

import json
from typing import Any

import httpx
import httpx2
import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as names
from opentelemetry.trace import SpanKind
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

import flexmw
from flexmw.envelope import Envelope
from flexmw.kit.semconv import ATTRIBUTES
from flexmw.tagging import Tagging
from flexmw.tagging.gen_ai import GenAi, request_attributes, response_attributes
from flexmw.testing.semconv import assert_semconv
from tests.tagging.apps import APPS, call
from tests.tagging.sdk import Signals

SECRET = "the-content-of-a-prompt"
CHAT = json.dumps({"model": "gpt-x", "messages": [{"role": "user", "content": SECRET}]}).encode()
USAGE = {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}
EXPECTED = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-x",
    "gen_ai.response.model": "gpt-x-2026",
    "gen_ai.usage.input_tokens": 7,
    "gen_ai.usage.output_tokens": 9,
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_every_name_is_one_of_the_installed_conventions() -> None:
    known = {value for name, value in vars(names).items() if name.startswith("GEN_AI")}
    ours = {name for name in ATTRIBUTES if name.startswith("gen_ai.")}
    assert ours <= known
    assert ours == set(EXPECTED)


@pytest.mark.parametrize(
    ("path", "host", "operation", "provider", "model"),
    [
        ("/v1/chat/completions", "api.openai.com", "chat", "openai", None),
        ("/openai/deployments/gpt-y/chat/completions", "eu.openai.azure.com", "chat", "azure.ai.openai", "gpt-y"),
        ("/v1/completions", None, "text_completion", "openai", None),
        ("/v1/embeddings", "127.0.0.1", "embeddings", "openai", None),
        ("/v1/responses", None, "chat", "openai", None),
        ("/v1/messages", "api.anthropic.com", "chat", "anthropic", None),
        (
            "/v1beta/models/gemini-x:streamGenerateContent",
            "generativelanguage.googleapis.com",
            "generate_content",
            "gcp.gemini",
            "gemini-x",
        ),
        ("/openai/v1/chat/completions", "api.groq.com", "chat", "groq", None),
    ],
)
def test_a_known_path_has_an_operation_and_a_provider(
    path: str, host: str | None, operation: str, provider: str, model: str | None
) -> None:
    attributes = request_attributes("POST", path, host, None)
    assert attributes["gen_ai.operation.name"] == operation
    assert attributes["gen_ai.provider.name"] == provider
    assert attributes.get("gen_ai.request.model") == model


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/chat/completions"), ("POST", "/v1/models"), ("POST", "/")])
def test_other_requests_have_no_attributes(method: str, path: str) -> None:
    assert request_attributes(method, path, "api.openai.com", CHAT) == {}
    assert GenAi.of(method, path, None) is None


@pytest.mark.parametrize("model", [7, "", "x" * 200, "a\nb", None])
def test_what_is_no_name_of_a_model_is_left_out(model: object) -> None:
    body = json.dumps({"model": model}).encode()
    assert "gen_ai.request.model" not in request_attributes("POST", "/v1/messages", None, body)


def test_a_key_in_the_place_of_a_model_is_masked() -> None:
    body = json.dumps({"model": "sk-proj-0123456789abcdefghijklmnop"}).encode()
    assert "0123456789" not in str(request_attributes("POST", "/v1/messages", None, body))


def test_the_usage_of_anthropics_streams_is_in_two_events_and_counts_cached_tokens() -> None:
    start = {
        "type": "message_start",
        "message": {"model": "claude-x", "usage": {"input_tokens": 3, "output_tokens": 1}},
    }
    start["message"]["usage"]["cache_read_input_tokens"] = 10  # type: ignore[index]
    delta = {"type": "message_delta", "usage": {"output_tokens": 12}}
    assert response_attributes([start, delta]) == {
        "gen_ai.response.model": "claude-x",
        "gen_ai.usage.input_tokens": 13,
        "gen_ai.usage.output_tokens": 12,
    }


def test_a_long_stream_keeps_its_first_and_its_last_events() -> None:
    seen = GenAi("/v1/chat/completions", None)
    seen.begin({"content-type": "text/event-stream; charset=utf-8"})
    event = b'data: {"model": "gpt-x-2026", "choices": [{"delta": {"content": "%s"}}]}\n\n' % (b"x" * 500)
    for _ in range(1000):
        seen.add(event)
    seen.add(b'data: {"model": "gpt-x-2026", "choices": [], "usage": %s}\n\n' % json.dumps(USAGE).encode())
    seen.add(b"data: [DONE]\n\n")
    attributes = seen.response_attributes()
    assert attributes == {name: EXPECTED[name] for name in attributes}
    assert len(attributes) == 3


async def _complete(request: Request) -> JSONResponse:
    await request.body()
    return JSONResponse({"model": "gpt-x-2026", "choices": [{"message": {"content": SECRET}}], "usage": USAGE})


async def _stream(request: Request) -> StreamingResponse:
    await request.body()

    async def events() -> Any:
        yield b'data: {"model": "gpt-x-2026", "choices": [{"delta": {"content": "%s"}}]}\n\n' % SECRET.encode()
        yield b'data: {"model": "gpt-x-2026", "choices": [], "usage": %s}\n\n' % json.dumps(USAGE).encode()
        yield b"data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


PATH = "/v1/chat/completions"


@pytest.mark.anyio
@pytest.mark.parametrize("endpoint", [_complete, _stream])
@pytest.mark.parametrize("setup", [name for name in APPS if name != "nothing"])
async def test_a_gateways_span_has_the_attributes_and_no_content(
    setup: str, endpoint: Any, signals: Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
    monkeypatch.setattr("tests.tagging.apps.ROUTES", {PATH[1:]: endpoint})
    monkeypatch.setattr(
        "tests.tagging.apps.starlette_app", lambda: Starlette(routes=[Route(PATH, endpoint, methods=["POST"])])
    )
    monkeypatch.setattr("tests.tagging.apps.fastapi_app", lambda telemetry: _fastapi(telemetry, endpoint))
    tagging = Tagging(gen_ai=True, **signals.options)
    app = APPS[setup](signals, lambda app: flexmw.wrap_app(app, tagging, Envelope()))
    assert (await call(app, PATH, method="POST", body=CHAT)).status == 200
    attributes = dict(signals.server_span.attributes or {})
    assert {name: value for name, value in attributes.items() if name.startswith("gen_ai.")} == EXPECTED
    assert SECRET not in "".join(span.to_json() for span in signals.spans)
    assert_semconv(signals.spans, signals.metric_data(), signals.raw_logs)


def _fastapi(telemetry: Any, endpoint: Any) -> Any:
    from fastapi import FastAPI

    app = FastAPI(telemetry=telemetry)
    app.add_route(PATH, endpoint, methods=["POST"])
    return app


@pytest.mark.anyio
async def test_nothing_is_read_where_it_is_not_asked_for(signals: Signals) -> None:
    app = Starlette(routes=[Route(PATH, _complete, methods=["POST"])])
    wrapped = flexmw.wrap_app(app, Tagging(server_span=True, **signals.options), Envelope())
    await call(wrapped, PATH, method="POST", body=CHAT)
    assert not [name for name in signals.server_span.attributes or () if name.startswith("gen_ai.")]


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_clients_call_has_the_attributes_on_its_span(library: Any, is_stream: bool, signals: Signals) -> None:
    def respond(request: Any) -> Any:
        if is_stream:
            text = b'data: {"model": "gpt-x-2026", "usage": %s}\n\ndata: [DONE]\n\n' % json.dumps(USAGE).encode()
            return library.Response(200, headers={"content-type": "text/event-stream"}, content=text)
        return library.Response(200, json={"model": "gpt-x-2026", "usage": USAGE})

    tagging = Tagging(gen_ai=True, call_span=True, **signals.options)
    with flexmw.wrap_client(library.Client(transport=library.MockTransport(respond)), tagging) as client:
        client.post("https://api.openai.com/v1/chat/completions", content=CHAT)
    (span,) = signals.of_kind(SpanKind.INTERNAL)
    attributes = dict(span.attributes or {})
    assert {name: value for name, value in attributes.items() if name.startswith("gen_ai.")} == EXPECTED
    assert SECRET not in span.to_json()
    assert_semconv(signals.spans, signals.metric_data(), signals.raw_logs)
