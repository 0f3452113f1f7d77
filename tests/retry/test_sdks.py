"""SDKs that retry by themselves, over a wrapped client: one POST stays one execution."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import anthropic
import anyio
import cohere
import groq
import httpx
import httpx2
import openai
import pytest
import tenacity
from google import genai

import flexmw
from flexmw.testing import HostileServer


@pytest.fixture(autouse=True)
def _sdks_wait_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDKs' own backoff, a hundredth of it: what they do stays, how long they wait before it does not matter."""
    for sdk in (openai, anthropic):
        monkeypatch.setattr(f"{sdk.__name__}._base_client.INITIAL_RETRY_DELAY", 0.005)


MESSAGES: Any = [{"role": "user", "content": "hello"}]


def call_openai(server: HostileServer, http: Any, retries: int) -> Any:
    with openai.OpenAI(api_key="k", base_url=f"{server.url}/v1", http_client=http, max_retries=retries) as sdk:
        return sdk.chat.completions.create(model="m", messages=MESSAGES)


def call_anthropic(server: HostileServer, http: Any, retries: int) -> Any:
    with anthropic.Anthropic(api_key="k", base_url=server.url, http_client=http, max_retries=retries) as sdk:
        return sdk.messages.create(model="m", max_tokens=9, messages=MESSAGES)


def call_openai_async(server: HostileServer, http: Any, retries: int) -> Any:
    async def run() -> Any:
        client = flexmw.wrap_client(httpx2.AsyncClient(timeout=patience(httpx2), trust_env=False))
        async with openai.AsyncOpenAI(
            api_key="k", base_url=f"{server.url}/v1", http_client=client, max_retries=retries
        ) as sdk:
            return await sdk.chat.completions.create(model="m", messages=MESSAGES)

    return anyio.run(run)


def patience(library: Any) -> Any:
    """Only reading is impatient: a server that falls silent is noticed, a busy machine changes nothing."""
    return library.Timeout(20.0, read=1.0)


def new(library: Any) -> Any:
    return flexmw.wrap_client(library.Client(timeout=patience(library), trust_env=False))


SDKS: dict[str, tuple[Callable[..., Any], Any]] = {
    "openai": (call_openai, httpx2),
    "openai-over-httpx": (call_openai, httpx),
    "openai-async": (call_openai_async, None),
    "anthropic": (call_anthropic, httpx2),
}

sdks = pytest.mark.parametrize("sdk", list(SDKS))


def run(sdk: str, server: HostileServer, retries: int) -> Any:
    call, library = SDKS[sdk]
    return call(server, new(library) if library else None, retries)


@sdks
@pytest.mark.parametrize("fault", ["rst", "hang", "cut-body", "500", "503", "504", "409", "408"])
def test_an_sdk_with_its_own_two_retries_executes_once(sdk: str, fault: str) -> None:
    with HostileServer(then=fault) as server:
        with pytest.raises((openai.APIError, anthropic.APIError)):
            run(sdk, server, retries=2)
        assert server.executions == 1
        assert len(server.requests) == 1, "what was given back as ambiguous is not even sent again"


@sdks
@pytest.mark.parametrize("fault", ["429:ms=0.01", "503:ms=0.01", "425"])
def test_an_sdk_without_retries_of_its_own_recovers(sdk: str, fault: str) -> None:
    with HostileServer([fault]) as server:
        run(sdk, server, retries=0)
        assert (server.executions, len(server.requests)) == (1, 2)


@sdks
def test_two_retriers_do_not_multiply(sdk: str) -> None:
    with HostileServer(then="429:ms=0.01") as server:
        with pytest.raises((openai.RateLimitError, anthropic.RateLimitError)):
            run(sdk, server, retries=2)
        assert len(server.requests) == 3


def test_a_retrying_sdk_is_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    with (
        HostileServer(then="rst-unread") as server,
        caplog.at_level(logging.WARNING, logger="flexmw"),
        openai.OpenAI(api_key="k", base_url=f"{server.url}/v1", http_client=new(httpx2), max_retries=1) as sdk,
    ):
        for _ in range(2):
            with pytest.raises(openai.APIConnectionError):
                sdk.chat.completions.create(model="m", messages=MESSAGES)
    assert len([record for record in caplog.records if "max_retries=0" in record.message]) == 1


def test_the_same_question_asked_anew_is_a_new_call() -> None:
    http = new(httpx2)
    with (
        HostileServer(["rst"]) as server,
        openai.OpenAI(api_key="k", base_url=f"{server.url}/v1", http_client=http, max_retries=1) as sdk,
    ):
        with pytest.raises(openai.APIConnectionError):
            sdk.chat.completions.create(model="m", messages=MESSAGES)
        assert sdk.chat.completions.create(model="m", messages=MESSAGES).choices
        assert server.executions == 2


def call_mistral(url: str) -> Any:
    from mistralai.client import Mistral

    with new(httpx2) as http, Mistral(api_key="k", server_url=url, client=http) as sdk:
        return sdk.chat.complete(model="m", messages=MESSAGES)


def call_groq(url: str) -> Any:
    with groq.Groq(api_key="k", base_url=url, http_client=new(httpx), max_retries=0) as sdk:
        return sdk.chat.completions.create(model="m", messages=MESSAGES)


def call_cohere(url: str) -> Any:
    with new(httpx) as http:
        sdk = cohere.ClientV2(api_key="k", base_url=url, httpx_client=http)
        return sdk.chat(model="m", messages=MESSAGES, request_options={"max_retries": 0})


def call_cohere_async(url: str) -> Any:
    async def run() -> Any:
        async with flexmw.wrap_client(httpx.AsyncClient(timeout=patience(httpx), trust_env=False)) as http:
            sdk = cohere.AsyncClientV2(api_key="k", base_url=url, httpx_client=http)
            return await sdk.chat(model="m", messages=MESSAGES)

    return anyio.run(run)


def call_cohere_blocking(url: str) -> Any:
    with new(httpx) as http:
        return cohere.ClientV2(api_key="k", base_url=url, httpx_client=http).chat(model="m", messages=MESSAGES)


@pytest.mark.parametrize("call", [call_cohere_blocking, call_cohere_async])
@pytest.mark.parametrize("fault", ["500", "408", "502"])
def test_cohere_with_its_own_two_retries_executes_once_and_shows_the_first_response(
    call: Callable[..., Any], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cohere.core.http_client.INITIAL_RETRY_DELAY_SECONDS", 0.005)
    with HostileServer([fault] * 3) as server, pytest.raises(cohere.core.ApiError) as caught:
        call(server.url)
    assert (server.executions, len(server.requests)) == (1, 1)
    assert caught.value.status_code == int(fault)
    assert caught.value.body
    known = flexmw.outcome_of(caught.value)
    assert known is not None
    assert (known.outcome, known.reason) == ("ambiguous", "given_back_before")


def test_cohere_that_repeats_lost_responses_too_executes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cohere.core.http_client.INITIAL_RETRY_DELAY_SECONDS", 0.005)
    with new(httpx) as http, HostileServer(["fin"] * 3) as server:
        sdk = cohere.ClientV2(api_key="k", base_url=server.url, httpx_client=http)
        with pytest.raises(httpx.RemoteProtocolError) as caught:
            sdk.chat(model="m", messages=MESSAGES, request_options={"retry_remote_protocol_errors": True})
    assert server.executions == 1
    assert caught.value.flexmw.reason == "given_back_before"  # type: ignore[attr-defined]


def test_cohere_asks_again_what_was_refused_and_asks_anew_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cohere.core.http_client.INITIAL_RETRY_DELAY_SECONDS", 0.005)
    with new(httpx) as http, HostileServer(["500", "ok", *["429:ms=1"] * 4, "ok"]) as server:
        sdk = cohere.ClientV2(api_key="k", base_url=server.url, httpx_client=http)
        with pytest.raises(cohere.core.ApiError):
            sdk.chat(model="m", messages=MESSAGES)
        assert sdk.chat(model="m", messages=MESSAGES).message
        assert sdk.chat(model="other", messages=MESSAGES).message  # three attempts, and one for each repetition
        assert (server.executions, len(server.requests)) == (3, 7)


def call_genai(url: str) -> Any:
    with new(httpx) as http:
        sdk = genai.Client(api_key="k", http_options=genai.types.HttpOptions(base_url=url, httpx_client=http))
        return sdk.models.generate_content(model="m", contents="hello")


def call_mistral_with_retries(url: str) -> Any:
    from mistralai.client import Mistral
    from mistralai.client.utils import BackoffStrategy, RetryConfig

    strategy = BackoffStrategy(initial_interval=1, max_interval=5, exponent=1.0, max_elapsed_time=200)
    with new(httpx2) as http, Mistral(api_key="k", server_url=url, client=http) as sdk:
        sdk.sdk_configuration.retry_config = RetryConfig("backoff", strategy, retry_connection_errors=True)
        return sdk.chat.complete(model="m", messages=MESSAGES)


def call_genai_with_retries(url: str) -> Any:
    options = genai.types.HttpRetryOptions(attempts=3, initial_delay=0.001, max_delay=0.001)
    with new(httpx) as http:
        http_options = genai.types.HttpOptions(base_url=url, httpx_client=http, retry_options=options)
        sdk = genai.Client(api_key="k", http_options=http_options)
        return sdk.models.generate_content(model="m", contents="hello")


def call_genai_async_with_retries(url: str) -> Any:
    async def run() -> Any:
        options = genai.types.HttpRetryOptions(attempts=3, initial_delay=0.001, max_delay=0.001)
        async with flexmw.wrap_client(httpx.AsyncClient(timeout=patience(httpx), trust_env=False)) as http:
            http_options = genai.types.HttpOptions(base_url=url, httpx_async_client=http, retry_options=options)
            sdk = genai.Client(api_key="k", http_options=http_options)
            return await sdk.aio.models.generate_content(model="m", contents="hello")

    return anyio.run(run)


@pytest.mark.parametrize("call", [call_mistral_with_retries, call_genai_with_retries, call_genai_async_with_retries])
@pytest.mark.parametrize("fault", ["500", "fin"])
def test_sdks_that_are_told_to_retry_execute_once(call: Callable[[str], Any], fault: str) -> None:
    with HostileServer(fault) as server, pytest.raises(Exception, match=r".*") as caught:
        call(server.url)
    assert (server.executions, len(server.requests)) == (1, 1)
    known = flexmw.outcome_of(caught.value)
    assert known is not None
    assert known.outcome == "ambiguous"


def test_an_sdk_inside_a_library_that_repeats_its_calls_executes_once() -> None:
    http = new(httpx2)
    with (
        HostileServer("fin") as server,
        openai.OpenAI(api_key="k", base_url=f"{server.url}/v1", http_client=http, max_retries=1) as sdk,
    ):

        def chat() -> Any:
            return sdk.chat.completions.create(model="m", messages=MESSAGES)

        chat.__module__ = "llama_index.llms.openai.base"
        with pytest.raises(openai.APIConnectionError):
            tenacity.retry(stop=tenacity.stop_after_attempt(3), reraise=True)(chat)()
        assert (server.executions, len(server.requests)) == (1, 1)


REPEATS_AT_THE_NEXT_NODE = """
def _execute_request(send, num_retries=0):
    try:
        return send(num_retries)
    except Exception:
        if num_retries == 3:
            raise
        return _execute_request(send, num_retries=num_retries + 1)
"""


@pytest.mark.parametrize("fault", [0, 500])
def test_an_sdk_that_repeats_a_call_at_the_next_node_executes_once(fault: int) -> None:
    names: dict[str, Any] = {"__name__": "typesense.sync.api_call"}
    exec(REPEATS_AT_THE_NEXT_NODE, names)
    hosts: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        hosts.append(request.url.host)
        if not fault:
            raise httpx.ReadError("lost")
        return httpx.Response(fault)

    with flexmw.wrap_client(httpx.Client(transport=httpx.MockTransport(respond))) as client:

        def send(node: int) -> None:
            client.post(f"http://node-{node}.test/collections/c/documents", json={}).raise_for_status()

        for count in (1, 2):
            with pytest.raises((httpx.ReadError, httpx.HTTPStatusError)) as caught:
                names["_execute_request"](send)
            assert hosts == ["node-0.test"] * count
            known = flexmw.outcome_of(caught.value)
            assert known is not None
            assert (known.outcome, known.reason) == ("ambiguous", "given_back_before")


def test_a_program_that_repeats_its_own_calls_makes_new_calls() -> None:
    with new(httpx) as http, HostileServer("fin") as server:
        call = tenacity.retry(stop=tenacity.stop_after_attempt(2), reraise=True)(lambda: http.post(server.url))
        with pytest.raises(httpx.RemoteProtocolError):
            call()
        assert server.executions == 2


@pytest.mark.parametrize("call", [call_mistral, call_groq, call_cohere, call_genai])
def test_the_outcome_of_a_status_is_found_on_the_error_of_every_sdk(call: Callable[[str], Any]) -> None:
    with HostileServer(["500"]) as server, pytest.raises(Exception, match=r".*") as caught:
        call(server.url)
    known = flexmw.outcome_of(caught.value)
    assert known is not None
    assert known.outcome == "ambiguous"


@pytest.mark.parametrize("call", [call_mistral, call_groq, call_cohere, call_genai])
@pytest.mark.parametrize(
    ("fault", "recovers"), [("429:ms=0.01", True), ("503:ms=0.01", True), ("rst", False), ("500", False)]
)
def test_other_sdks_with_their_one_line(call: Callable[[str], Any], fault: str, recovers: bool) -> None:
    with HostileServer([fault] if recovers else [fault] * 5) as server:
        try:
            call(server.url)
            recovered = True
        except Exception:
            recovered = False
        assert (recovered, server.executions, len(server.requests)) == (recovers, 1, 2 if recovers else 1)
