"""What the SDKs do by themselves, one logical call each: the oracle that flexmw's own retries are held against."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import anthropic
import openai
import pytest

from flexmw.testing import HostileServer
from tests.testing.clients import NO_TRUST
from tests.waiting import LONGEST_WAIT

MESSAGES: Any = [{"role": "user", "content": "hello"}]
SECRET = "sk-none"


@dataclass(frozen=True)
class Result:
    """How one call ended and what the server saw."""

    error: str | None
    answer: str | None
    executions: int
    requests: int
    keys: tuple[str | None, ...]
    counts: tuple[str | None, ...]


def gpt(url: str, **options: Any) -> openai.OpenAI:
    transport = openai.DefaultHttpxClient(verify=NO_TRUST)
    return openai.OpenAI(**{"api_key": SECRET, "base_url": f"{url}/v1", "http_client": transport, **options})


def chat(url: str) -> str:
    with gpt(url) as client:
        return client.chat.completions.create(model="m", messages=MESSAGES).id


def impatient_chat(url: str) -> str:
    with gpt(url, timeout=openai.Timeout(10.0, read=0.5)) as client:
        return client.chat.completions.create(model="m", messages=MESSAGES).id


def keyed_chat(url: str) -> str:
    with gpt(url) as client:
        headers = {"Idempotency-Key": "8e03"}
        return client.chat.completions.create(model="m", messages=MESSAGES, extra_headers=headers).id


def chat_once(url: str) -> str:
    with gpt(url, max_retries=0) as client:
        return client.chat.completions.create(model="m", messages=MESSAGES).id


def streamed_chat(url: str) -> str:
    with gpt(url) as client:
        chunks = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def message(url: str) -> str:
    transport = anthropic.DefaultHttpxClient(verify=NO_TRUST)
    with anthropic.Anthropic(api_key=SECRET, base_url=url, http_client=transport) as client:
        return client.messages.create(model="m", max_tokens=9, messages=MESSAGES).id


# (call, fault on every request, honours keys) -> executions
EXECUTIONS: dict[tuple[Callable[[str], str], str, bool], int] = {
    **{(chat, fault, False): 3 for fault in ("rst", "fin", "cut-body", "500", "503", "409")},
    (impatient_chat, "hang", False): 3,
    **{(message, fault, False): 3 for fault in ("rst", "fin", "cut-body", "500", "503", "409")},
    **{(streamed_chat, fault, False): 3 for fault in ("rst", "500")},
    (streamed_chat, "cut-body", False): 1,
    (chat, "500:should-not-retry", False): 1,
    (message, "500:should-not-retry", False): 1,
    (chat, "429", False): 0,
    (chat_once, "rst", False): 1,
    (chat, "rst", True): 3,
    (keyed_chat, "rst", False): 3,
    (keyed_chat, "rst", True): 1,
}


def run(call: Callable[[str], str], script: Any, dedup: bool) -> Result:
    with HostileServer(script, dedup=dedup) as server:
        try:
            answer, error = call(server.url), None
        except (openai.APIError, anthropic.APIError) as caught:
            answer, error = None, type(caught).__name__
        server.wait_for(server.connections, "closed")  # now the counts are final, whoever gave up first
        return Result(
            error,
            answer,
            server.executions,
            len(server.requests),
            tuple(request.header("idempotency-key") for request in server.requests),
            tuple(request.header("x-stainless-retry-count") for request in server.requests),
        )


@pytest.fixture(scope="module")
def results() -> Generator[dict[tuple[Callable[[str], str], str, bool], Result]]:
    """All of them at the same time: the SDKs sleep for a second or more between their attempts."""
    with ThreadPoolExecutor(len(EXECUTIONS)) as pool:
        calls = {case: pool.submit(run, *case) for case in EXECUTIONS}
        yield {case: call.result(LONGEST_WAIT) for case, call in calls.items()}


@pytest.mark.parametrize(
    "case", EXECUTIONS, ids=lambda case: f"{case[0].__name__}-{case[1]}-{'dedup' if case[2] else 'ignores keys'}"
)
def test_one_call_is_executed_as_often_as_was_measured(case: Any, results: dict[Any, Result]) -> None:
    assert results[case].executions == EXECUTIONS[case]


def test_an_sdk_sends_no_key_of_its_own_and_counts_its_retries(results: dict[Any, Result]) -> None:
    for call in (chat, message):
        assert results[call, "rst", False].keys == (None, None, None)
        assert results[call, "rst", False].counts == ("0", "1", "2")


def test_a_key_makes_the_call_succeed_where_it_is_honoured_and_does_nothing_where_not(
    results: dict[Any, Result],
) -> None:
    honoured, ignored = results[keyed_chat, "rst", True], results[keyed_chat, "rst", False]
    assert (honoured.answer, honoured.keys) == ("chatcmpl-1", ("8e03", "8e03"))
    assert (ignored.answer, ignored.error) == (None, "APIConnectionError")


@pytest.mark.parametrize(("call", "answer"), [(chat, "chatcmpl-1"), (message, "msg_1")])
def test_an_sdk_parses_the_good_response_and_recovers_from_a_refusal(call: Callable[[str], str], answer: str) -> None:
    result = run(call, ["429:ms=0"], False)
    assert (result.answer, result.executions, result.requests) == (answer, 1, 2)


def streamed_message(url: str) -> str:
    transport = anthropic.DefaultHttpxClient(verify=NO_TRUST)
    with (
        anthropic.Anthropic(api_key=SECRET, base_url=url, http_client=transport) as client,
        client.messages.stream(model="m", max_tokens=9, messages=MESSAGES) as stream,
    ):
        return stream.get_final_text()


@pytest.mark.parametrize("call", [streamed_chat, streamed_message])
def test_an_sdk_reads_the_streamed_response(call: Callable[[str], str]) -> None:
    assert run(call, [], False).answer == "Hello from the hostile server."


def test_every_path_of_openai_has_a_response_that_its_sdk_reads() -> None:
    with HostileServer() as server, gpt(server.url) as client:
        assert client.completions.create(model="m", prompt="hello").choices[0].text.startswith("Hello")
        assert client.responses.create(model="m", input="hello").output_text.startswith("Hello")
        assert client.embeddings.create(model="m", input="hello", encoding_format="float").data[0].embedding == [
            3.0,
            0.5,
        ]
        assert [model.id for model in client.models.list()] == ["hostile-1"]
