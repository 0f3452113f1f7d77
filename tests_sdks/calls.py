"""One call of each SDK over a client that flexmw has wrapped, blocking and async.

A call takes the server's URL and whether the response is streamed, and returns when the response is read whole.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # read when litellm is imported: no download

import anthropic
import cohere
import groq
import httpx
import httpx2
import huggingface_hub
import litellm
import openai
from anthropic import DefaultAioHttpClient as AnthropicAioHttpClient
from google import genai
from huggingface_hub.utils import hf_raise_for_status, http_backoff
from langchain_openai import ChatOpenAI
from mcp import Client as McpClient
from mcp.client.streamable_http import streamable_http_client
from mistralai.client import Mistral
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

import flexmw

__all__ = ["ASYNC", "BLOCKING", "AsyncCall", "Call"]

Call = Callable[[str, bool], object]
AsyncCall = Callable[[str, bool], Awaitable[object]]

MESSAGES: Any = [{"role": "user", "content": "hello"}]
READ_SECONDS: Final = 2.0
litellm.suppress_debug_info = True  # otherwise it prints an advertisement for each error


@contextmanager
def client(library: Any = httpx2) -> Iterator[Any]:
    with library.Client(timeout=library.Timeout(20.0, read=READ_SECONDS), trust_env=False) as plain:
        yield flexmw.wrap_client(plain)


@asynccontextmanager
async def async_client(library: Any = httpx2) -> AsyncIterator[Any]:
    async with library.AsyncClient(timeout=library.Timeout(20.0, read=READ_SECONDS), trust_env=False) as plain:
        yield flexmw.wrap_client(plain)


def call_openai(url: str, stream: bool) -> object:
    with client() as http:
        sdk = openai.OpenAI(api_key="k", base_url=f"{url}/v1", http_client=http, max_retries=0)
        response: Any = sdk.chat.completions.create(model="m", messages=MESSAGES, stream=stream)
        return list(response) if stream else response


async def acall_openai(url: str, stream: bool) -> object:
    async with async_client() as http:
        sdk = openai.AsyncOpenAI(api_key="k", base_url=f"{url}/v1", http_client=http, max_retries=0)
        return await _openai(sdk, stream)


async def acall_openai_aiohttp(url: str, stream: bool) -> object:
    async with openai.DefaultAioHttpClient() as plain:
        http = flexmw.wrap_client(plain)
        sdk = openai.AsyncOpenAI(api_key="k", base_url=f"{url}/v1", http_client=http, max_retries=0)
        return await _openai(sdk, stream)


async def _openai(sdk: Any, stream: bool) -> object:
    response = await sdk.chat.completions.create(model="m", messages=MESSAGES, stream=stream)
    return [chunk async for chunk in response] if stream else response


def call_openai_retrying(url: str, stream: bool) -> object:
    """With the two retries of its own that the SDK makes by default."""
    with client() as http:
        sdk = openai.OpenAI(api_key="k", base_url=f"{url}/v1", http_client=http)
        response: Any = sdk.chat.completions.create(model="m", messages=MESSAGES, stream=stream)
        return list(response) if stream else response


async def acall_openai_retrying(url: str, stream: bool) -> object:
    async with async_client() as http:
        return await _openai(openai.AsyncOpenAI(api_key="k", base_url=f"{url}/v1", http_client=http), stream)


def call_anthropic(url: str, stream: bool) -> object:
    with client() as http:
        sdk = anthropic.Anthropic(api_key="k", base_url=url, http_client=http, max_retries=0)
        response: Any = sdk.messages.create(model="m", max_tokens=9, messages=MESSAGES, stream=stream)
        return list(response) if stream else response


async def acall_anthropic(url: str, stream: bool) -> object:
    async with async_client() as http:
        return await _anthropic(url, http, stream)


async def acall_anthropic_aiohttp(url: str, stream: bool) -> object:
    async with AnthropicAioHttpClient() as plain:
        return await _anthropic(url, flexmw.wrap_client(plain), stream)


async def _anthropic(url: str, http: Any, stream: bool) -> object:
    sdk = anthropic.AsyncAnthropic(api_key="k", base_url=url, http_client=http, max_retries=0)
    response: Any = await sdk.messages.create(model="m", max_tokens=9, messages=MESSAGES, stream=stream)
    return [event async for event in response] if stream else response


def call_groq(url: str, stream: bool) -> object:
    with client(httpx) as http:
        sdk = groq.Groq(api_key="k", base_url=url, http_client=http, max_retries=0)
        response: Any = sdk.chat.completions.create(model="m", messages=MESSAGES, stream=stream)
        return list(response) if stream else response


async def acall_groq(url: str, stream: bool) -> object:
    async with async_client(httpx) as http:
        return await _openai(groq.AsyncGroq(api_key="k", base_url=url, http_client=http, max_retries=0), stream)


def call_mistral(url: str, stream: bool) -> object:
    with client() as http, Mistral(api_key="k", server_url=url, client=http) as sdk:
        if stream:
            return list(sdk.chat.stream(model="m", messages=MESSAGES))
        return sdk.chat.complete(model="m", messages=MESSAGES)


async def acall_mistral(url: str, stream: bool) -> object:
    async with async_client() as http, Mistral(api_key="k", server_url=url, async_client=http) as sdk:
        if not stream:
            return await sdk.chat.complete_async(model="m", messages=MESSAGES)
        return [event async for event in await sdk.chat.stream_async(model="m", messages=MESSAGES)]


def call_cohere(url: str, stream: bool) -> object:
    with client(httpx) as http:
        sdk = cohere.ClientV2(api_key="k", base_url=url, httpx_client=http, max_retries=0)
        return list(sdk.chat_stream(model="m", messages=MESSAGES)) if stream else sdk.chat(model="m", messages=MESSAGES)


async def acall_cohere(url: str, stream: bool) -> object:
    async with async_client(httpx) as http:
        sdk = cohere.AsyncClientV2(api_key="k", base_url=url, httpx_client=http, max_retries=0)
        if stream:
            return [event async for event in sdk.chat_stream(model="m", messages=MESSAGES)]
        return await sdk.chat(model="m", messages=MESSAGES)


def call_genai(url: str, stream: bool) -> object:
    with client(httpx) as http:
        sdk = genai.Client(api_key="k", http_options=genai.types.HttpOptions(base_url=url, httpx_client=http))
        if stream:
            return list(sdk.models.generate_content_stream(model="m", contents="hello"))
        return sdk.models.generate_content(model="m", contents="hello")


async def acall_genai(url: str, stream: bool) -> object:
    async with async_client(httpx) as http:
        options = genai.types.HttpOptions(base_url=url, httpx_async_client=http)
        sdk = genai.Client(api_key="k", http_options=options).aio
        if stream:
            return [part async for part in await sdk.models.generate_content_stream(model="m", contents="hello")]
        return await sdk.models.generate_content(model="m", contents="hello")


def call_genai_interaction(url: str, stream: bool) -> object:
    with client(httpx) as http:
        sdk = genai.Client(api_key="k", http_options=genai.types.HttpOptions(base_url=url, httpx_client=http))
        response: Any = sdk.interactions.create(model="m", input="hello", stream=stream)
        return list(response) if stream else response


async def acall_genai_interaction(url: str, stream: bool) -> object:
    async with async_client(httpx) as http:
        options = genai.types.HttpOptions(base_url=url, httpx_async_client=http)
        sdk = genai.Client(api_key="k", http_options=options).aio
        response: Any = await sdk.interactions.create(model="m", input="hello", stream=stream)
        return [event async for event in response] if stream else response


def call_huggingface(url: str, stream: bool) -> object:
    with client(httpx) as http:
        huggingface_hub.set_client_factory(lambda: http)
        sdk = huggingface_hub.InferenceClient(base_url=f"{url}/v1", api_key="k")
        response: Any = sdk.chat_completion(messages=MESSAGES, model="m", stream=stream)
        return list(response) if stream else response


def call_huggingface_upload(url: str, stream: bool) -> object:
    """The POST of an upload, which the library repeats five times."""
    with client() as http:
        huggingface_hub.set_client_factory(lambda: http)
        wait: Any = {"base_wait_time": 0.01, "max_wait_time": 0.01}
        response = http_backoff("POST", f"{url}/api/buckets/b/batch", json={"stream": stream}, **wait)
        hf_raise_for_status(response)
        return response


async def acall_huggingface(url: str, stream: bool) -> object:
    timeout = httpx.Timeout(20.0, read=READ_SECONDS)
    huggingface_hub.set_async_client_factory(lambda: flexmw.wrap_client(httpx.AsyncClient(timeout=timeout)))
    async with huggingface_hub.AsyncInferenceClient(base_url=f"{url}/v1", api_key="k") as sdk:
        response: Any = await sdk.chat_completion(messages=MESSAGES, model="m", stream=stream)
        return [chunk async for chunk in response] if stream else response


def call_langchain_openai(url: str, stream: bool) -> object:
    with client() as http:
        model = ChatOpenAI(api_key="k", base_url=f"{url}/v1", model="m", max_retries=0, http_client=http)
        return list(model.stream("hello")) if stream else model.invoke("hello")


async def acall_langchain_openai(url: str, stream: bool) -> object:
    async with async_client() as http:
        model = ChatOpenAI(api_key="k", base_url=f"{url}/v1", model="m", max_retries=0, http_async_client=http)
        return [chunk async for chunk in model.astream("hello")] if stream else await model.ainvoke("hello")


async def acall_pydantic_ai(url: str, stream: bool) -> object:
    async with async_client() as http:
        sdk = openai.AsyncOpenAI(api_key="k", base_url=f"{url}/v1", http_client=http, max_retries=0)
        agent = Agent(OpenAIChatModel("m", provider=OpenAIProvider(openai_client=sdk)))
        if not stream:
            return await agent.run("hello")
        async with agent.run_stream("hello") as result:
            return [text async for text in result.stream_text()]


def call_litellm(url: str, stream: bool) -> object:
    with client(httpx) as http:
        sdk = openai.OpenAI(api_key="k", base_url=f"{url}/v1", http_client=http, max_retries=0)
        response: Any = litellm.completion(
            model="openai/m", messages=MESSAGES, client=sdk, stream=stream, max_retries=0, num_retries=0
        )
        return list(response) if stream else response


async def acall_litellm(url: str, stream: bool) -> object:
    async with async_client(httpx) as http:
        sdk = openai.AsyncOpenAI(api_key="k", base_url=f"{url}/v1", http_client=http, max_retries=0)
        response: Any = await litellm.acompletion(
            model="openai/m", messages=MESSAGES, client=sdk, stream=stream, max_retries=0, num_retries=0
        )
        return [chunk async for chunk in response] if stream else response


async def acall_mcp(url: str, stream: bool) -> object:
    async with async_client() as http, McpClient(streamable_http_client(f"{url}/mcp", http_client=http)) as sdk:
        return await sdk.call_tool("add", {"a": 2, "b": 3})


BLOCKING: Final[dict[str, Call]] = {
    "openai": call_openai,
    "openai, its own two retries": call_openai_retrying,
    "anthropic": call_anthropic,
    "groq": call_groq,
    "mistralai": call_mistral,
    "cohere": call_cohere,
    "google-genai": call_genai,
    "google-genai, its own four retries of an interaction": call_genai_interaction,
    "huggingface_hub": call_huggingface,
    "huggingface_hub, its own five retries of an upload": call_huggingface_upload,
    "langchain-openai": call_langchain_openai,
    "litellm": call_litellm,
}

ASYNC: Final[dict[str, AsyncCall]] = {
    "openai": acall_openai,
    "openai, its own two retries": acall_openai_retrying,
    "openai over aiohttp": acall_openai_aiohttp,
    "anthropic": acall_anthropic,
    "anthropic over aiohttp": acall_anthropic_aiohttp,
    "groq": acall_groq,
    "mistralai": acall_mistral,
    "cohere": acall_cohere,
    "google-genai": acall_genai,
    "google-genai, its own four retries of an interaction": acall_genai_interaction,
    "huggingface_hub": acall_huggingface,
    "langchain-openai": acall_langchain_openai,
    "pydantic-ai": acall_pydantic_ai,
    "litellm": acall_litellm,
    "mcp": acall_mcp,
}
