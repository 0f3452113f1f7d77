"""Unmodified SDKs, which send no key and try three times by default: one execution in every fault."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import openai
import pytest

from flexmw.envelope import Envelope
from flexmw.idempotency import Idempotency
from tests.idempotency.proxy import Fault, Proxy, proxy_to
from tests.idempotency.service import Provider
from tests.servers import Serve

ASK: Any = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@contextmanager
def provider(serve: Serve, provider: Provider, *faults: Fault, storage: str = "memory://") -> Iterator[Proxy]:
    app = Envelope().asgi(Idempotency(storage=storage, sdk_retries=True).asgi(provider.app()))
    with proxy_to(serve(app).port, *faults, begun=lambda: provider.runs) as proxy:
        yield proxy


def openai_at(proxy: Proxy, timeout: float = 10.0) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="sk-one", timeout=timeout)


def anthropic_at(proxy: Proxy, timeout: float = 10.0) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=proxy.url, api_key="sk-one", timeout=timeout)


def ask(client: Any) -> str:
    """One call; the id of its answer says which run made it."""
    if isinstance(client, openai.OpenAI):
        return client.chat.completions.create(**ASK).id.rpartition("-")[2]
    return str(client.messages.create(**ASK, max_tokens=5).id).rpartition("-")[2]


CLIENTS = pytest.mark.parametrize("client_at", [openai_at, anthropic_at])


@CLIENTS
@pytest.mark.parametrize("faults", [("lost",), ("gone",), ("half",), ("lost", "gone")])
def test_a_response_that_was_lost_on_the_way_is_sent_again(
    serve: Serve, client_at: Any, faults: tuple[Fault, ...]
) -> None:
    host = Provider()
    with provider(serve, host, *faults) as proxy, client_at(proxy) as client:
        assert ask(client) == "1"
        assert proxy.connections == len(faults) + 1
    assert host.runs == 1


@CLIENTS
def test_a_client_that_timed_out_gets_the_response_of_the_execution_that_was_running(
    serve: Serve, client_at: Any
) -> None:
    host = Provider(seconds=1.0)
    with provider(serve, host, "stall") as proxy, client_at(proxy, timeout=0.7) as client:
        assert ask(client) == "1"
    assert host.runs == 1


@CLIENTS
@pytest.mark.parametrize("fault", ["500", "502", "503", "raise", "timeout", "409"])
def test_an_error_after_the_work_began_is_final(serve: Serve, client_at: Any, fault: str) -> None:
    host = Provider(faults=[fault])
    errors = (openai.APIStatusError, anthropic.APIStatusError)
    with provider(serve, host) as proxy, client_at(proxy) as client, pytest.raises(errors) as caught:
        ask(client)
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert host.runs == 1


@CLIENTS
def test_a_refusal_is_tried_again_and_runs(serve: Serve, client_at: Any) -> None:
    host = Provider(faults=["429"])
    with provider(serve, host) as proxy, client_at(proxy) as client:
        assert ask(client) == "2"
    assert host.runs == 2


@CLIENTS
def test_two_equal_calls_stay_two(serve: Serve, client_at: Any) -> None:
    host = Provider()
    with provider(serve, host) as proxy, client_at(proxy) as client:
        assert [ask(client), ask(client)] == ["1", "2"]
    assert host.runs == 2


def test_two_equal_calls_of_which_one_loses_its_response_stay_two_and_keep_their_own(serve: Serve) -> None:
    host = Provider()
    with provider(serve, host, "pass", "lost") as proxy:
        for expected in ("1", "2"):
            with openai_at(proxy) as client:
                assert ask(client) == expected
    assert host.runs == 2


def test_the_response_of_an_equal_call_is_not_given_to_a_call_that_was_refused(serve: Serve) -> None:
    host = Provider(faults=["ok", "429"])
    with provider(serve, host) as proxy, openai_at(proxy) as client:
        assert [ask(client), ask(client)] == ["1", "3"]


def test_another_caller_never_gets_the_response(serve: Serve) -> None:
    host = Provider()
    with provider(serve, host) as proxy:
        for key in ("sk-one", "sk-two"):
            with openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=key) as client:
                client.with_options(default_headers={"x-stainless-retry-count": "1"}).chat.completions.create(**ASK)
    assert host.runs == 2


@pytest.mark.parametrize("faults", [("lost",), ("gone",)])
def test_a_stream_whose_start_was_lost_is_replayed_whole(serve: Serve, faults: tuple[Fault, ...]) -> None:
    host = Provider()
    with (
        provider(serve, host, *faults) as proxy,
        openai_at(proxy) as client,
        client.chat.completions.create(**ASK, stream=True) as stream,
    ):
        chunks = [chunk.choices[0].delta.content for chunk in stream]
    assert chunks == ["0", "1", "2", "3"]
    assert host.runs == 1


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_a_keyed_request_runs_once_on_every_store(
    serve: Serve, kind: str, tmp_path: Any, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/keys.db" if kind == "sqlite" else request.getfixturevalue("redis_url")
    host = Provider()
    with provider(serve, host, "lost", "gone", storage=url) as proxy, openai_at(proxy) as client:
        assert [ask(client), ask(client)] == ["1", "2"]
    assert host.runs == 2


async def _ask_async(client: openai.AsyncOpenAI) -> str:
    return (await client.chat.completions.create(**ASK)).id


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_async_client_too(serve: Serve, anyio_backend: str) -> None:
    host = Provider()
    with provider(serve, host, "lost") as proxy:
        async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="sk-one") as client:
            assert await _ask_async(client) == "chatcmpl-1"
    assert host.runs == 1
