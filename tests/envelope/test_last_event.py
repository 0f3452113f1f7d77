"""The last event of a failed stream: each SDK raises on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import groq
import openai
import pytest
from google import genai
from mistralai.client import Mistral

import flexmw
from tests.servers import uvicorn_server

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

MESSAGES: Any = [{"role": "user", "content": "x"}]
CHUNK = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}\n\n'
)
FIRST = {
    "anthropic": b'event: ping\ndata: {"type":"ping"}\n\n',
    "google": b'data: {"candidates":[{"content":{"parts":[{"text":"Hi"}],"role":"model"}}]}\n\n',
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        sdk = scope["path"].split("/")[1]
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": FIRST.get(sdk, CHUNK), "more_body": True})
        raise flexmw.UpstreamTimeout()

    with uvicorn_server(flexmw.Envelope().asgi(app), lifespan="off") as served:
        yield served.url


def call_openai(url: str) -> Any:
    with openai.OpenAI(api_key="k", base_url=url, max_retries=0) as sdk:
        return list(sdk.chat.completions.create(model="m", messages=MESSAGES, stream=True))


def call_openai_responses(url: str) -> Any:
    with openai.OpenAI(api_key="k", base_url=url, max_retries=0) as sdk:
        return list(sdk.responses.create(model="m", input="x", stream=True))


def call_groq(url: str) -> Any:
    with groq.Groq(api_key="k", base_url=url, max_retries=0) as sdk:
        return list(sdk.chat.completions.create(model="m", messages=MESSAGES, stream=True))


def call_anthropic(url: str) -> Any:
    with anthropic.Anthropic(api_key="k", base_url=f"{url}/anthropic", max_retries=0) as sdk:
        return list(sdk.messages.create(model="m", max_tokens=1, messages=MESSAGES, stream=True))


def call_mistral(url: str) -> Any:
    with Mistral(api_key="k", server_url=url) as sdk, sdk.chat.stream(model="m", messages=MESSAGES) as stream:
        return list(stream)


def call_google(url: str) -> Any:
    with genai.Client(api_key="k", http_options={"base_url": f"{url}/google"}) as sdk:
        return list(sdk.models.generate_content_stream(model="m", contents="x"))


CALLS: dict[str, tuple[Callable[[str], Any], str]] = {
    "openai": (call_openai, "openai"),
    "openai, responses": (call_openai_responses, "openai"),
    "groq": (call_groq, "groq"),
    "anthropic": (call_anthropic, "anthropic"),
    "mistralai": (call_mistral, "mistralai"),
    "google-genai": (call_google, "google"),
}


@pytest.mark.parametrize(("run", "package"), CALLS.values(), ids=CALLS)
def test_the_sdk_raises_an_error_of_its_own(run: Callable[[str], Any], package: str, url: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        run(url)
    assert type(caught.value).__module__.partition(".")[0] == package
