"""``outcome_of``: what became of a call, whatever object an SDK hands out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import groq
import httpx
import httpx2
import openai
import pytest
from mistralai.client import Mistral

import flexmw
from flexmw.testing import HostileServer

MESSAGES: Any = [{"role": "user", "content": "hello"}]


def client(library: Any) -> Any:
    return flexmw.wrap_client(library.Client(timeout=library.Timeout(20.0, read=1.0), trust_env=False))


def call_openai(server: HostileServer) -> Any:
    with openai.OpenAI(api_key="k", base_url=f"{server.url}/v1", http_client=client(httpx2), max_retries=0) as sdk:
        return sdk.chat.completions.create(model="m", messages=MESSAGES)


def call_anthropic(server: HostileServer) -> Any:
    with anthropic.Anthropic(api_key="k", base_url=server.url, http_client=client(httpx2), max_retries=0) as sdk:
        return sdk.messages.create(model="m", max_tokens=9, messages=MESSAGES)


def call_groq(server: HostileServer) -> Any:
    with groq.Groq(api_key="k", base_url=server.url, http_client=client(httpx), max_retries=0) as sdk:
        return sdk.chat.completions.create(model="m", messages=MESSAGES)


def call_mistral(server: HostileServer) -> Any:
    with client(httpx) as http, Mistral(api_key="k", server_url=server.url, client=http) as sdk:
        return sdk.chat.complete(model="m", messages=MESSAGES)


def call_httpx(server: HostileServer) -> Any:
    with client(httpx) as http:
        return http.post(server.url, json={}).raise_for_status()


sdks = pytest.mark.parametrize("call", [call_openai, call_anthropic, call_groq, call_mistral, call_httpx])


@sdks
@pytest.mark.parametrize(("fault", "outcome"), [("rst", "ambiguous"), ("500", "ambiguous"), ("404", "answered")])
def test_an_error_of_an_sdk_says_how_the_call_ended(
    call: Callable[[HostileServer], Any], fault: str, outcome: str
) -> None:
    with HostileServer([fault]) as server, pytest.raises(Exception) as caught:  # noqa: PT011  each SDK's own class
        call(server)
    found = flexmw.outcome_of(caught.value)
    assert found is not None
    assert (found.outcome, found.attempts) == (outcome, 1)


def test_a_response_and_a_raw_response_of_an_sdk_say_it_too() -> None:
    with HostileServer(["503:ms=0.01", "ok", "ok"]) as server, client(httpx2) as http:
        found = flexmw.outcome_of(http.get(server.url))
        assert found is not None
        assert (found.outcome, found.attempts) == ("answered", 2)
        sdk = openai.OpenAI(api_key="k", base_url=f"{server.url}/v1", http_client=http, max_retries=0)
        raw = sdk.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
        assert flexmw.outcome_of(raw) == flexmw.Outcome("answered", 1)


def test_a_cause_and_a_group_are_followed_and_a_context_is_not() -> None:
    lost, wrapped = ConnectionError(), RuntimeError("wrapped")
    lost.flexmw = outcome = flexmw.Outcome("ambiguous", 1)  # type: ignore[attr-defined]
    wrapped.__cause__ = lost
    assert flexmw.outcome_of(wrapped) is outcome
    assert flexmw.outcome_of(ExceptionGroup("calls", [ValueError(), wrapped])) is outcome
    other = RuntimeError("of another call")
    other.__context__ = lost
    assert flexmw.outcome_of(other) is None


def test_any_other_object_has_no_outcome() -> None:
    class Hostile(Exception):
        flexmw = "mine"

        @property
        def response(self) -> Any:
            raise LookupError

    endless = Hostile()
    endless.__cause__ = endless
    for value in (None, 7, "text", endless, httpx.Response(200), {"response": 1}):
        assert flexmw.outcome_of(value) is None
