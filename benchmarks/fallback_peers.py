"""Fallback beside LiteLLM's router, pydantic-ai's FallbackModel and langchain's ``with_fallbacks``, on three faults.

Two upstreams with OpenAI's API. The first one refuses, loses the response of a POST after it has executed it, or cuts a
stream after its first events; the second one is well. Each router is set up as its documentation says, with its
defaults and with all retries off, and makes one call; the executions are counted at each upstream. The upstreams honour
idempotency keys; only flexmw sends one, where it is told so::

    python -m benchmarks.fallback_peers

It needs ``litellm``, ``langchain-openai``, ``pydantic-ai-slim[openai]`` and ``plugins/flexmw-fallback``; a router that
is not installed is left out. Loopback only. ``tox -e fallback-peers`` installs them.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import logging
import os
import sys
import time
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import openai

import flexmw
from flexmw.testing import HostileServer
from flexmw.testing.hostile import Cut, Received

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # read when litellm is imported: no download
os.environ.setdefault("OPENAI_API_KEY", "k")

MESSAGES: Any = [{"role": "user", "content": "hello"}]
KEYS = ("key-of-the-first", "key-of-the-second")

Call = Callable[[str, str, bool, bool], Awaitable[str]]


async def flexmw_fallback(first: str, second: str, stream: bool, other: bool) -> str:
    """``other``: with a key, which the upstreams are declared to honour."""
    from flexmw_fallback import Fallback, Upstream

    keyed = flexmw.Retry(auto_key=True, key_origins=(first, second), resume="replay")
    retry = keyed if other else flexmw.Retry()
    fallback = Fallback(
        Upstream(f"{first}/v1"), Upstream(f"{second}/v1", headers={"authorization": f"Bearer {KEYS[1]}"})
    )
    http = flexmw.wrap_client(openai.DefaultAsyncHttpxClient(), fallback, retry)
    async with openai.AsyncOpenAI(api_key=KEYS[0], base_url=f"{first}/v1", http_client=http) as sdk:
        response: Any = await sdk.chat.completions.create(model="m", messages=MESSAGES, stream=stream)
        if not stream:
            return str(response.choices[0].message.content)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in response if chunk.choices])


async def litellm_router(first: str, second: str, stream: bool, other: bool) -> str:
    import litellm

    litellm.suppress_debug_info = True
    params: Any = {"max_retries": 0} if other else {}
    models = [
        {
            "model_name": name,
            "litellm_params": {"model": "openai/m", "api_base": f"{url}/v1", "api_key": key, **params},
        }
        for name, url, key in (("first", first, KEYS[0]), ("second", second, KEYS[1]))
    ]
    router = litellm.Router(
        model_list=models, fallbacks=[{"first": ["second"]}], **({"num_retries": 0} if other else {})
    )
    response: Any = await router.acompletion(model="first", messages=MESSAGES, stream=stream)
    if not stream:
        return str(response.choices[0].message.content)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in response if chunk.choices])


async def pydantic_ai_fallback_model(first: str, second: str, stream: bool, other: bool) -> str:
    from pydantic_ai import Agent
    from pydantic_ai.models.fallback import FallbackModel
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    options: Any = {"max_retries": 0} if other else {}
    sdks = [
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, **options)
        for url, key in ((first, KEYS[0]), (second, KEYS[1]))
    ]
    models = [OpenAIChatModel("m", provider=OpenAIProvider(openai_client=sdk)) for sdk in sdks]
    agent = Agent(FallbackModel(*models))
    if not stream:
        return str((await agent.run("hello")).output)
    async with agent.run_stream("hello") as result:
        return "".join([text async for text in result.stream_text(delta=True, debounce_by=None)])


async def langchain_with_fallbacks(first: str, second: str, stream: bool, other: bool) -> str:
    from langchain_openai import ChatOpenAI

    options: Any = {"max_retries": 0} if other else {}
    models: list[Any] = [
        ChatOpenAI(model="m", base_url=f"{url}/v1", api_key=key, **options)
        for url, key in ((first, KEYS[0]), (second, KEYS[1]))
    ]
    model = models[0].with_fallbacks([models[1]])
    if not stream:
        return str((await model.ainvoke("hello")).content)
    return "".join([str(chunk.content) async for chunk in model.astream("hello")])


ROUTERS: dict[str, tuple[str, Call, tuple[str, str]]] = {
    "flexmw-fallback": ("flexmw_fallback", flexmw_fallback, ("", ", key honoured")),
    "litellm": ("litellm", litellm_router, ("", ", retries off")),
    "pydantic-ai-slim": ("pydantic_ai", pydantic_ai_fallback_model, ("", ", retries off")),
    "langchain-openai": ("langchain_openai", langchain_with_fallbacks, ("", ", retries off")),
}
"""Module and call of each router, and the names of its two settings."""

FAULTS: dict[str, tuple[Any, bool]] = {
    "429, Retry-After: 2": ("429:seconds=2", False),
    "lost response of a POST": ("rst", False),
    "stream cut after its first event": (Cut(at=0.45), True),
}


@dataclass(frozen=True)
class Row:
    """One router and one fault."""

    router: str
    fault: str
    result: str
    executions: tuple[int, int]
    requests: tuple[int, int]
    seconds: float
    leaked: bool

    def text(self) -> str:
        executions, requests = (" + ".join(map(str, pair)) for pair in (self.executions, self.requests))
        leaked = "**yes**" if self.leaked else "no"
        return f"| {self.router} | {self.result} | {executions} | {requests} | {self.seconds:.1f} s | {leaked} |"


def run(router: str, call: Call, fault: str, other: bool) -> Row:
    script, stream = FAULTS[fault]
    with HostileServer(script, dedup=True) as first, HostileServer(dedup=True) as second, HostileServer() as well:
        whole = asyncio.run(call(well.url, second.url, stream, other))
        began = time.monotonic()
        try:
            text = asyncio.run(asyncio.wait_for(call(first.url, second.url, stream, other), 60.0))
        except Exception as error:
            result = f"{type(error).__name__}"
        else:
            result = "whole" if text == whole else "doubled or cut text"
        seconds = time.monotonic() - began
        executions = (first.executions, second.executions)
        requests = (len(first.requests), len(second.requests))
        return Row(router, fault, result, executions, requests, seconds, any(map(_leaks, second.requests)))


def _leaks(request: Received) -> bool:
    return KEYS[0] in str(request.headers)


def main() -> int:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    present = {name: row for name, row in ROUTERS.items() if importlib.util.find_spec(row[0])}
    peers = [name for name in present if name != "flexmw-fallback"]
    versions = "".join(f"{name} {importlib.metadata.version(name)}, " for name in peers)
    sys.stdout.write(f"{versions}openai {openai.__version__}\n")
    for fault in FAULTS:
        sys.stdout.write(f"\n**{fault}**\n\n| router | the caller gets | executions | requests | time | key leaked |\n")
        sys.stdout.write("|---|---|---|---|---|---|\n")
        for name, (_, call, settings) in present.items():
            for other, setting in enumerate(settings):
                sys.stdout.write(run(f"{name}{setting}", call, fault, bool(other)).text() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
