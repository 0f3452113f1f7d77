"""Event streams: what is held back until the first output, and what an SDK reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
from calls import CLIENTS, IDS, PATIENCE, SHORT, TWO, Upstreams, call
from flexmw_fallback import Fallback, PreambleEvent, Upstream
from flexmw_fallback._preamble import MAX_EVENTS, Preamble

import flexmw
from flexmw.testing.hostile import Cut, Drip, Response

Serve = Callable[..., Upstreams]

ERROR = 'data: {"error": {"type": "overloaded_error"}}\n\n'
ROLE = ': ping\n\ndata: {"choices": [{"delta": {"role": "assistant"}}]}\n\n'
OUTPUT = 'data: {"choices": [{"delta": {"content": "Hello"}}]}\n\n'
DONE = "data: [DONE]\n\n"


def stream(*events: str) -> Response:
    return Response(200, body="".join(events).encode(), headers=(("Content-Type", "text/event-stream"),))


def preamble(event: PreambleEvent) -> str:
    if event.data == "[DONE]":
        return "commit"
    body = json.loads(event.data)
    if "error" in body:
        return "refused"
    return "commit" if "content" in body["choices"][0]["delta"] else "wait"


@pytest.mark.parametrize("kind", CLIENTS, ids=IDS)
@pytest.mark.parametrize("beginning", [(ERROR,), (ROLE, ERROR)], ids=["first", "after a preamble"])
def test_a_stream_that_begins_with_an_error_goes_to_the_next_upstream(serve: Serve, kind: Any, beginning: Any) -> None:
    good = ROLE + OUTPUT + DONE
    upstreams = serve(Drip(response=stream(*beginning), size=9, interval=0.0), stream(good))
    result = call(upstreams, upstreams.fallback(preamble=preamble), kind)
    assert result.response.text == good
    assert [each[1:3] for each in result.outcome.tried] == [("refused", 200), ("answered", 200)]
    assert result.outcome.upstream == upstreams.servers[1].url


@pytest.mark.parametrize("kind", TWO, ids=["blocking", "async"])
def test_after_the_first_output_every_byte_reaches_the_caller(serve: Serve, kind: Any) -> None:
    whole = ROLE + OUTPUT + ERROR
    upstreams = serve(Drip(response=stream(whole), size=7, interval=0.0), "ok")
    result = call(upstreams, upstreams.fallback(preamble=preamble), kind)
    assert (result.response.text, upstreams.seen) == (whole, [1, 0])


def test_without_a_preamble_a_stream_is_the_callers(serve: Serve) -> None:
    upstreams = serve(stream(ERROR), "ok")
    result = call(upstreams, upstreams.fallback())
    assert (result.response.text, upstreams.seen) == (ERROR, [1, 0])


@pytest.mark.parametrize("permit", [(), ("ambiguous",)])
def test_a_stream_that_breaks_while_it_is_held_back_is_given_back(serve: Serve, permit: Any) -> None:
    upstreams = serve(Cut(response=stream(ROLE, OUTPUT), at=0.1), "ok")
    result = call(upstreams, upstreams.fallback(preamble=preamble, permit=permit))
    assert (type(result.error).__name__, upstreams.seen) == ("RemoteProtocolError", [1, 0])
    assert (result.outcome.outcome, result.outcome.upstream) == ("ambiguous", upstreams.servers[0].url)


def test_where_every_stream_is_refused_the_caller_gets_the_first_of_them(serve: Serve) -> None:
    upstreams = serve(stream(ERROR), stream(ROLE, ERROR))
    result = call(upstreams, upstreams.fallback(preamble=preamble))
    assert (result.response.status_code, result.response.text) == (200, ERROR)
    assert (result.outcome.outcome, result.outcome.upstream) == ("refused", upstreams.servers[0].url)


def test_an_error_response_helps_more_than_a_stream_that_was_refused(serve: Serve) -> None:
    upstreams = serve(stream(ERROR), "429:seconds=900")
    assert call(upstreams, upstreams.fallback(preamble=preamble)).response.status_code == 429


def test_what_is_no_event_stream_is_not_held_back(serve: Serve) -> None:
    upstreams = serve(Response(200, body=ERROR.encode()), "ok")
    assert call(upstreams, upstreams.fallback(preamble=preamble)).response.text == ERROR


def test_a_preamble_that_returns_something_else_is_refused(serve: Serve) -> None:
    upstreams = serve(stream(ERROR), "ok")
    result = call(upstreams, upstreams.fallback(preamble=lambda event: True))
    assert isinstance(result.error, flexmw.ConfigError)


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r"])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_events_are_read_whatever_their_lines_and_pieces(end: str, size: int) -> None:
    events: list[PreambleEvent] = []

    def take(event: PreambleEvent) -> str:
        events.append(event)
        return "wait"

    line = end[: len(end) // 2]
    text = f": ping{end}event: error{line}data: one{line}data:two{end}data: three{end}data: not whole".encode()
    reader = Preamble(take)
    assert not any(reader.take(text[start : start + size]) for start in range(0, len(text), size))
    assert [(event.name, event.data) for event in events] == [("error", "one\ntwo"), ("message", "three")]


def test_no_more_events_than_the_bound_are_held_back() -> None:
    reader = Preamble(lambda event: "wait")
    decided = [reader.take(b"data: x\n\n") for _ in range(MAX_EVENTS)]
    assert decided == [False] * (MAX_EVENTS - 1) + [True]
    assert reader.result == "commit"


@dataclass
class Wrapped:
    """An SDK's client over two upstreams."""

    upstreams: Upstreams
    options: dict[str, Any]

    def client(self, default: Any, **more: Any) -> Any:
        fallback = self.upstreams.fallback({}, {"headers": {"authorization": "Bearer of-b"}}, **self.options)
        return self.upstreams.wrap(default(timeout=PATIENCE), fallback, **more)


def ask(sdk: openai.OpenAI, **options: Any) -> Any:
    return sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], **options)


def test_the_stream_of_openai_reads_the_next_upstream(serve: Serve) -> None:
    upstreams = serve("429:seconds=30", "ok")
    http = Wrapped(upstreams, {}).client(openai.DefaultHttpxClient)
    with openai.OpenAI(api_key="of-a", base_url=f"{upstreams.servers[0].url}/v1", http_client=http) as sdk:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in ask(sdk, stream=True) if chunk.choices)
    assert text
    assert upstreams.executions == [0, 1]
    assert upstreams.servers[1].requests[0].header("authorization") == "Bearer of-b"


def test_the_stream_of_anthropic_reads_the_next_upstream(serve: Serve) -> None:
    upstreams = serve("503:seconds=30", "ok")
    of_b = Upstream(upstreams.servers[1].url, headers={"x-api-key": "of-b"})
    fallback = Fallback(Upstream(upstreams.servers[0].url), of_b, clock=upstreams.clock)
    http = upstreams.wrap(anthropic.DefaultHttpxClient(timeout=PATIENCE), fallback)
    url = upstreams.servers[0].url
    message: Any = {"role": "user", "content": "hi"}
    with (
        anthropic.Anthropic(api_key="of-a", base_url=url, http_client=http) as sdk,
        sdk.messages.stream(model="m", max_tokens=9, messages=[message]) as events,
    ):
        assert events.get_final_text()
    assert upstreams.executions == [0, 1]
    assert upstreams.servers[1].requests[0].header("x-api-key") == "of-b"


@pytest.mark.parametrize("fault", ["rst", "500", "hang", "cut-head"])
def test_an_sdk_that_retries_above_executes_an_ambiguous_call_once(serve: Serve, fault: str) -> None:
    upstreams = serve([fault], "ok")
    http = Wrapped(upstreams, {}).client(openai.DefaultHttpxClient)
    with (
        openai.OpenAI(
            api_key="k",
            base_url=f"{upstreams.servers[0].url}/v1",
            http_client=http,
            max_retries=2,
            timeout=SHORT if fault == "hang" else PATIENCE,
        ) as sdk,
        pytest.raises(openai.APIError) as caught,
    ):
        ask(sdk)
    assert upstreams.executions == [1, 0]
    outcome: Any = flexmw.outcome_of(caught.value)
    assert (outcome.outcome, outcome.upstream) == ("ambiguous", upstreams.servers[0].url)


def test_an_sdk_that_repeats_a_call_lost_at_the_second_upstream_executes_it_once(serve: Serve) -> None:
    upstreams = serve(["429:seconds=0"], ["rst"])
    http = Wrapped(upstreams, {}).client(openai.DefaultHttpxClient)
    with (
        openai.OpenAI(api_key="k", base_url=f"{upstreams.servers[0].url}/v1", http_client=http, max_retries=2) as sdk,
        pytest.raises(openai.APIConnectionError) as caught,
    ):
        ask(sdk)
    assert upstreams.executions == [0, 1]
    outcome: Any = flexmw.outcome_of(caught.value)
    assert (outcome.reason, outcome.upstream) == ("given_back_before", upstreams.servers[1].url)


def test_an_sdk_that_asks_for_a_token_before_each_attempt_repeats_nothing_at_another_upstream(serve: Serve) -> None:
    upstreams, tokens = serve(["429:seconds=0"], ["rst"]), iter("abc")
    http = Wrapped(upstreams, {}).client(openai.DefaultHttpxClient)
    url = f"{upstreams.servers[0].url}/v1"
    with (
        openai.OpenAI(api_key=lambda: next(tokens), base_url=url, http_client=http, max_retries=2) as sdk,
        pytest.raises(openai.APIConnectionError),
    ):
        ask(sdk)
    assert upstreams.executions == [0, 1]


def fern_sdk() -> Callable[..., Any]:
    """The method of an SDK that Fern has generated: it calls itself again, and counts in ``retries``."""

    def request(http: Any, url: str, retries: int = 0) -> Any:
        response = http.post(url, json={})
        again: Any = globals()["request"]
        return again(http, url, retries + 1) if response.status_code >= 500 and retries < 2 else response

    namespace: dict[str, Any] = {"__name__": "acme.core.http_client"}
    namespace["globals"] = lambda: namespace
    namespace["request"] = FunctionType(request.__code__, namespace, argdefs=(0,))
    method: Callable[..., Any] = namespace["request"]
    return method


def test_an_sdk_that_sends_no_count_repeats_nothing_at_another_upstream(serve: Serve) -> None:
    upstreams = serve(["429:seconds=0"], ["500"])
    with Wrapped(upstreams, {}).client(httpx.Client) as http:
        response = fern_sdk()(http, f"{upstreams.servers[0].url}/v1/chat/completions")
    assert (response.status_code, upstreams.executions) == (500, [0, 1])
    assert flexmw.outcome_of(response).reason == "given_back_before"  # type: ignore[union-attr]


def test_an_sdk_that_retries_above_walks_once_over_the_upstreams(serve: Serve) -> None:
    upstreams = serve("429:seconds=30", "429:seconds=30")
    http = Wrapped(upstreams, {}).client(openai.DefaultHttpxClient)
    with (
        openai.OpenAI(api_key="k", base_url=f"{upstreams.servers[0].url}/v1", http_client=http, max_retries=2) as sdk,
        pytest.raises(openai.RateLimitError),
    ):
        ask(sdk)
    assert max(upstreams.seen) <= 3
    assert upstreams.executions == [0, 0]


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_repetition_with_a_count_asks_each_upstream_once_and_does_not_wait(serve: Serve, library: Any) -> None:
    upstreams = serve("429:seconds=2", "429:seconds=2")
    headers = {"x-stainless-retry-count": "1"}
    result = call(upstreams, upstreams.fallback(), (library, False), headers=headers)
    assert (result.response.status_code, upstreams.seen, upstreams.clock.slept) == (429, [1, 1], [])
