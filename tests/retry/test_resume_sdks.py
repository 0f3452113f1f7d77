"""Unmodified SDKs over streams whose connection is cut: raw streams and the SDKs' own stream helpers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
import anyio
import cohere
import groq
import httpx
import httpx2
import mistralai.client
import openai
import pytest
from google import genai

import flexmw
from flexmw import Retry
from flexmw.testing import HostileServer
from flexmw.testing.hostile import Fault, Received
from flexmw.testing.hostile.good import answer_to
from tests.retry.stream_server import Cut, StreamServer, refusal

MESSAGES: Any = [{"role": "user", "content": "hello"}]

GEMINI = b"".join(
    b'data: {"candidates": [{"content": {"role": "model", "parts": [{"text": "%d"}]}}]}\r\n\r\n' % n for n in range(4)
)
"""A stream without a terminal event."""

COHERE = b"".join(
    b"event: %s\ndata: %s\n\n" % (json.loads(event)["type"].encode(), event)
    for event in (
        b'{"type": "message-start", "id": "m"}',
        b'{"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}}',
        *[b'{"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "hello"}}}}'] * 3,
        b'{"type": "content-end", "index": 0}',
        b'{"type": "message-end", "delta": {"finish_reason": "COMPLETE"}}',
    )
)


class Provider(StreamServer):
    """Sends each SDK the stream that it can read."""

    def __call__(self, request: Received) -> Fault:
        good = answer_to(request, 0)
        self.body, self.content_type = good.body, good.content_type
        if request.path.endswith(":streamGenerateContent"):
            self.body, self.content_type = GEMINI, "text/event-stream"
        elif request.path.endswith("/v2/chat"):
            self.body, self.content_type = COHERE, "text/event-stream"
        return super().__call__(request)


def openai_stream(url: str, http: Any) -> Any:
    sdk = openai.OpenAI(api_key="k", base_url=f"{url}/v1", http_client=http, max_retries=2)
    return list(sdk.chat.completions.create(model="m", messages=MESSAGES, stream=True))


def openai_helper(url: str, http: Any) -> Any:
    sdk = openai.OpenAI(api_key="k", base_url=f"{url}/v1", http_client=http, max_retries=0)
    with sdk.chat.completions.stream(model="m", messages=MESSAGES) as stream:
        return [event.type for event in stream], stream.get_final_completion()


def anthropic_helper(url: str, http: Any) -> Any:
    sdk = anthropic.Anthropic(api_key="k", base_url=url, http_client=http, max_retries=0)
    with sdk.messages.stream(model="m", max_tokens=9, messages=MESSAGES) as stream:
        return stream.get_final_text(), stream.get_final_message()


def mistral_stream(url: str, http: Any) -> Any:
    with mistralai.client.Mistral(api_key="k", server_url=url, client=http) as sdk:
        return list(sdk.chat.stream(model="m", messages=MESSAGES))


def groq_stream(url: str, http: Any) -> Any:
    sdk = groq.Groq(api_key="k", base_url=url, http_client=http, max_retries=0)
    return list(sdk.chat.completions.create(model="m", messages=MESSAGES, stream=True))


def cohere_stream(url: str, http: Any) -> Any:
    return list(cohere.ClientV2(api_key="k", base_url=url, httpx_client=http).chat_stream(model="m", messages=MESSAGES))


def genai_stream(url: str, http: Any) -> Any:
    options = genai.types.HttpOptions(base_url=url, httpx_client=http)
    sdk = genai.Client(api_key="k", http_options=options)
    return [part.text for part in sdk.models.generate_content_stream(model="m", contents="hello")]


async def async_openai_stream(url: str, http: Any) -> Any:
    sdk = openai.AsyncOpenAI(api_key="k", base_url=f"{url}/v1", http_client=http, max_retries=2)
    return [chunk async for chunk in await sdk.chat.completions.create(model="m", messages=MESSAGES, stream=True)]


async def async_anthropic_helper(url: str, http: Any) -> Any:
    sdk = anthropic.AsyncAnthropic(api_key="k", base_url=url, http_client=http, max_retries=0)
    async with sdk.messages.stream(model="m", max_tokens=9, messages=MESSAGES) as stream:
        return await stream.get_final_text(), await stream.get_final_message()


def client(library: Any, url: str) -> Any:
    policy = Retry(auto_key=True, key_origins=(url,), random=lambda: 0.0)
    return flexmw.wrap_client(library(timeout=20.0, trust_env=False), policy)


@pytest.mark.parametrize(
    ("call", "library"),
    [
        (openai_stream, httpx2),
        (openai_helper, httpx2),
        (anthropic_helper, httpx2),
        (mistral_stream, httpx2),
        (groq_stream, httpx),
        (cohere_stream, httpx),
        (genai_stream, httpx),
    ],
    ids=["openai", "openai's helper", "anthropic's helper", "mistralai", "groq", "cohere", "google-genai"],
)
def test_an_sdk_reads_one_whole_stream(call: Callable[[str, Any], Any], library: Any) -> None:
    script = Provider()
    with HostileServer(script) as server, client(library.Client, server.url) as http:
        whole = call(server.url, http)
        for size in range(0, len(script.body), len(script.body) // 4):
            script.cuts = [Cut(size), Cut(0, "rst"), Cut(40)]
            assert call(server.url, http) == whole
        assert script.cuts == []
        assert whole
    assert server.executions == len(script.kept) >= 5


@pytest.mark.parametrize("call", [async_openai_stream, async_anthropic_helper])
def test_an_async_sdk_reads_one_whole_stream(call: Callable[[str, Any], Awaitable[Any]]) -> None:
    script = Provider()

    async def run() -> None:
        async with client(httpx2.AsyncClient, server.url) as http:
            whole = await call(server.url, http)
            for size in range(0, len(script.body), len(script.body) // 4):
                script.cuts = [Cut(size), Cut(0, "rst"), Cut(40)]
                assert await call(server.url, http) == whole

    with HostileServer(script) as server:
        anyio.run(run)
    assert server.executions == len(script.kept) >= 5


def test_the_error_of_an_sdk_carries_the_outcome_of_a_lost_stream() -> None:
    script = Provider(cuts=[Cut(100)], refusals=[refusal(410)])
    with (
        HostileServer(script) as server,
        client(httpx2.Client, server.url) as http,
        pytest.raises(openai.APIConnectionError) as caught,
    ):
        openai_stream(server.url, http)
    outcome = flexmw.outcome_of(caught.value)
    assert outcome is not None
    assert (outcome.outcome, outcome.reason, outcome.received) == ("ambiguous", "stream_gone", 100)
    assert outcome.key is not None
    assert (len(server.requests), server.executions) == (2, 1)
