"""check_flow passes what behaves, and finds each thing that does not."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import httpx
import httpx2
import pytest

import flexmw
from flexmw.adopted import adopt
from flexmw.testing import check_flow, play
from flexmw.testing.flow import FLOW_CHECKS

Steps = Generator[Any, Any, Any]


@dataclass(frozen=True, kw_only=True)
class Component:
    """A component out of a generator function."""

    name: ClassVar[str] = "acme.test"
    api: ClassVar[int] = 1
    order: ClassVar[flexmw.Order] = flexmw.Order()
    steps: Callable[..., Any]
    memory: dict[str, Any] = field(default_factory=dict, init=False)

    def flow(self, request: Any) -> Any:
        return self.steps(self, request)


def stamp(self: Component, request: Any) -> Steps:
    request.headers["x-stamp"] = "1"
    return (yield flexmw.Send(request))


def once_more(self: Component, request: Any) -> Steps:
    response = yield flexmw.Send(request)
    if response.status_code == 429:
        yield flexmw.Discard(response)
        yield flexmw.Sleep(1.0)
        response = yield flexmw.Send(request)
    return response


def no_generator(self: Component, request: Any) -> Any:
    return None


async def is_async(self: Component, request: Any) -> Any:
    return None


def always_twice(self: Component, request: Any) -> Steps:
    yield flexmw.Discard((yield flexmw.Send(request)))
    return (yield flexmw.Send(request))


def forgets_the_response(self: Component, request: Any) -> Steps:
    yield flexmw.Send(request)


def returns_the_discarded(self: Component, request: Any) -> Steps:
    response = yield flexmw.Send(request)
    if response.status_code == 500:
        yield flexmw.Discard(response)
    return response


def retries_for_ever(self: Component, request: Any) -> Steps:
    while True:
        response = yield flexmw.Send(request)
        if response.status_code < 500:
            return response
        yield flexmw.Discard(response)
        yield flexmw.Sleep(1.0)


def sleeps_backwards(self: Component, request: Any) -> Steps:
    response = yield flexmw.Send(request)
    if response.status_code == 429:
        yield flexmw.Sleep(-1.0)
    return response


def yields_the_request(self: Component, request: Any) -> Steps:
    return (yield request)


def sends_an_url(self: Component, request: Any) -> Steps:
    return (yield flexmw.Send("https://api.test/"))


def hides_errors(self: Component, request: Any) -> Steps:
    try:
        return (yield flexmw.Send(request))
    except Exception:
        return None


def changes_errors(self: Component, request: Any) -> Steps:
    broken = False
    try:
        return (yield flexmw.Send(request))
    except Exception:
        broken = True
    if broken:
        raise RuntimeError("upstream is broken")


def repeats_posts(self: Component, request: Any) -> Steps:
    response = yield flexmw.Send(request)
    if response.status_code == 500:
        yield flexmw.Discard(response)
        response = yield flexmw.Send(request)
    return response


def repeats_lost_posts(self: Component, request: Any) -> Steps:
    try:
        return (yield flexmw.Send(request))
    except Exception:
        return (yield flexmw.Send(request))


def tries_again_when_cancelled(self: Component, request: Any) -> Steps:
    try:
        return (yield flexmw.Send(request))
    except BaseException:
        return (yield flexmw.Send(request))


def replaces_cancellation(self: Component, request: Any) -> Steps:
    try:
        return (yield flexmw.Send(request))
    except Exception:
        raise
    except BaseException as error:
        raise RuntimeError("interrupted") from error


def remembers_the_response_on_self(self: Component, request: Any) -> Steps:
    self.memory["response"] = yield flexmw.Send(request)
    yield flexmw.Sleep(0)
    return self.memory["response"]


def remembers_the_request_on_self(self: Component, request: Any) -> Steps:
    self.memory.setdefault("request", request)
    return (yield flexmw.Send(self.memory["request"]))


def blocks(self: Component, request: Any) -> Steps:
    time.sleep(0)
    return (yield flexmw.Send(request))


def connects(self: Component, request: Any) -> Steps:
    with socket.socket() as own, contextlib.suppress(OSError):
        own.connect(("127.0.0.1", 9))
    return (yield flexmw.Send(request))


def uses_the_text(self: Component, request: Any) -> Steps:
    response = yield flexmw.Send(request)
    response.json()
    return response


def reads_by_itself(self: Component, request: Any) -> Steps:
    response = yield flexmw.Send(request)
    response.read()
    return response


def closes_by_itself(self: Component, request: Any) -> Steps:
    response = yield flexmw.Send(request)
    if response.status_code == 503:
        response.close()
        response = yield flexmw.Send(request)
    return response


def raises_at_a_good_response(self: Component, request: Any) -> Steps:
    yield flexmw.Send(request)
    raise LookupError("no such thing")


def uses_the_content_of_an_upload(self: Component, request: Any) -> Steps:
    request.headers["x-length"] = str(len(request.content))
    return (yield flexmw.Send(request))


def stores_the_response(self: Component, request: Any) -> Steps:
    if str(request.url) not in self.memory:
        self.memory[str(request.url)] = yield flexmw.Send(request)
    return self.memory[str(request.url)]


def makes_one_for_httpx(self: Component, request: Any) -> Steps:
    if request.method == "GET":
        return httpx.Response(200)
    return (yield flexmw.Send(request))


def stores_the_bytes(self: Component, request: Any) -> Steps:
    if request.method == "GET" and (body := self.memory.get(str(request.url))) is not None:
        return flexmw.build_response(request, body=body)
    response = yield flexmw.Send(request)
    if response.status_code == 200:
        self.memory[str(request.url)] = yield flexmw.Read(response, 1000)
    return response


def responds_when_nothing_is_there(self: Component, request: Any) -> Steps:
    try:
        return (yield flexmw.Send(request))
    except Exception:
        return flexmw.build_response(request, 503, body=b"{}")


def continued(rest: Any) -> Any:
    """Steps that continue a body which breaks by the flow ``rest(request, error)``."""

    def steps(self: Component, request: Any) -> Steps:
        def again(error: Exception | None) -> Any:
            return None if error is None else rest(request, error)

        return (yield flexmw.Resume((yield flexmw.Send(request)), again))

    return steps


def asks_again(request: Any, error: Exception) -> Steps:
    try:
        return (yield flexmw.Send(request))
    except Exception:
        raise error from None


def ignores_the_end(request: Any, error: Exception) -> Steps:
    try:
        return (yield flexmw.Send(request))
    except BaseException:
        raise error from None


def waits_for_ever(request: Any, error: Exception) -> Steps:
    while True:
        yield flexmw.Sleep(1.0)


def changes_the_error(request: Any, error: Exception) -> Steps:
    yield flexmw.Sleep(1.0)
    raise LookupError


def makes_a_response(request: Any, error: Exception) -> Steps:
    yield flexmw.Sleep(1.0)
    return "response"


def leaves_the_body(request: Any, error: Exception) -> None:
    return None


WRONG = [
    (continued(ignores_the_end), "broken bodies", "when KeyboardInterrupt() was raised"),
    (continued(waits_for_ever), "broken bodies", "asked for more than 1000 effects"),
    (continued(changes_the_error), "broken bodies", "became an unrelated LookupError()"),
    (continued(makes_a_response), "broken bodies", "went on with 'response'"),
    (uses_the_text, "good response", "it used the body of a response that has not been read"),
    (reads_by_itself, "good response", "only `body = yield from flexmw.read(response, limit)` may"),
    (closes_by_itself, "error responses", "on a 503: it closed a response by itself"),
    (raises_at_a_good_response, "good response", "a GET that got a 200 ended with LookupError"),
    (uses_the_content_of_an_upload, "streamed request", "it used request.content of an upload from a stream"),
    (stores_the_response, "repeated request", "got the response object of the first"),
    (makes_one_for_httpx, "good response", "flexmw.build_response makes one"),
    (no_generator, "good response", "not a generator"),
    (is_async, "good response", "flow() returned coroutine, not a generator"),
    (always_twice, "good response", "a POST that got a 200 was sent 2 times"),
    (forgets_the_response, "good response", "returned None, not a response that it was given"),
    (returns_the_discarded, "error responses", "on a 500: the response that it returned was discarded"),
    (retries_for_ever, "error responses", "on a 503: it asked for more than 1000 effects"),
    (sleeps_backwards, "error responses", "on a 429: it asked to sleep for -1.0 seconds"),
    (yields_the_request, "good response", "which is no effect"),
    (sends_an_url, "good response", "which is no request"),
    (hides_errors, "transport errors", "ended with the response None"),
    (changes_errors, "transport errors", "became an unrelated RuntimeError"),
    (repeats_posts, "one execution", "was sent 2 times on 500"),
    (repeats_lost_posts, "one execution", "was sent 2 times on ReadTimeout"),
    (tries_again_when_cancelled, "cancellation", "it went on after KeyboardInterrupt"),
    (tries_again_when_cancelled, "closing", "do not catch BaseException"),
    (replaces_cancellation, "cancellation", "CancelledError did not come out"),
    (remembers_the_response_on_self, "interleaved calls", "one got the other's response"),
    (remembers_the_request_on_self, "interleaved calls", "the call to b.test yielded"),
    (blocks, "blocks", "flow() calls time.sleep"),
    (connects, "blocks", "flow() calls socket.connect"),
]


@pytest.mark.parametrize("steps", [stamp, once_more, stores_the_bytes, responds_when_nothing_is_there])
def test_a_flow_that_behaves_passes(steps: Any) -> None:
    check_flow(Component(steps=steps))


@pytest.mark.parametrize("rest", [asks_again, leaves_the_body])
def test_a_component_may_continue_a_body_that_breaks(rest: Any) -> None:
    check_flow(Component(steps=continued(rest)))


@pytest.mark.parametrize(("steps", "check", "words"), WRONG, ids=lambda value: getattr(value, "__name__", None))
def test_each_misbehaviour_is_named(steps: Any, check: str, words: str) -> None:
    with pytest.raises(AssertionError, match=r"'acme\.test' does not conform") as caught:
        check_flow(Component(steps=steps))
    lines = [line for line in str(caught.value).splitlines() if line.startswith(f"  - {check}: ")]
    assert any(words in line for line in lines), str(caught.value)


def test_every_check_has_a_component_that_fails_it() -> None:
    assert {check for _, check, _ in WRONG} >= set(FLOW_CHECKS)


def only_for_httpx(self: Component, request: Any) -> Steps:
    response = yield flexmw.Send(request)
    if response.status_code == 503 and isinstance(response, httpx.Response):
        yield flexmw.Discard(response)
        response = yield flexmw.Send(request)
    return response


def repeats_real_posts(self: Component, request: Any) -> Steps:
    response = yield flexmw.Send(request)
    if response.status_code == 500 and request.url.host == "127.0.0.1":
        request.stream = type(request.stream)(b"{}")
        request.headers["content-length"] = "2"
        return (yield flexmw.Send(request))
    return response


def uses_the_text_of_real_responses(self: Component, request: Any) -> Steps:
    response = yield flexmw.Send(request)
    if request.url.host == "127.0.0.1":
        response.json()
    return response


def test_what_fails_alike_on_all_real_transports_is_named() -> None:
    with pytest.raises(AssertionError) as caught:
        check_flow(Component(steps=uses_the_text_of_real_responses))
    for label in ("httpx.Client", "httpx.AsyncClient", "httpx2.Client", "httpx2.AsyncClient"):
        fault = f"{label}: a POST with a good response ends with ResponseNotRead: it used the body of a response"
        assert f"transports: {fault}" in str(caught.value)


def test_transports_that_do_not_agree_are_named() -> None:
    with pytest.raises(
        AssertionError, match=r"transports: GET with the responses 503, ok ends differently: httpx\.Client"
    ):
        check_flow(Component(steps=only_for_httpx))


def test_a_post_that_is_executed_twice_on_the_wire_is_named() -> None:
    with pytest.raises(AssertionError) as caught:
        check_flow(Component(steps=repeats_real_posts))
    assert "transports: httpx.Client: one POST was executed 2 times on 500" in str(caught.value)
    assert "transports: httpx2.AsyncClient: the body of one POST arrived in 2 forms" in str(caught.value)


class Wrapper(httpx2.BaseTransport):
    """A transport wrapper as others write it."""

    def __init__(self, transport: httpx2.BaseTransport, *, again_on: int = 429) -> None:
        self.transport, self.again_on = transport, again_on

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = self.transport.handle_request(request)
        if response.status_code == self.again_on:
            response.close()
            response = self.transport.handle_request(request)
        return response

    def close(self) -> None:
        self.transport.close()


def test_an_adopted_transport_is_run_where_it_belongs() -> None:
    check_flow(adopt(Wrapper))


def test_an_adopted_transport_that_repeats_posts_is_found() -> None:
    with pytest.raises(AssertionError, match=r"httpx2\.Client: one POST was executed 2 times on 500"):
        check_flow(adopt(Wrapper, again_on=500))


@pytest.mark.anyio
async def test_it_runs_inside_an_event_loop_too() -> None:
    check_flow(Component(steps=stamp))


def test_a_component_without_a_client_side_is_refused() -> None:
    with pytest.raises(flexmw.ConfigError, match="a client side: a method `flow`"):
        check_flow(object())


def test_play_shows_the_effects_of_a_flow() -> None:
    played = play(flexmw.Retry(attempts=2), [429, 200], httpx2.Request("GET", "https://api.test/"))
    names = [type(effect).__name__ for effect in played.effects]
    assert names == ["Send", "Discard", "Emit", "Sleep", "Send", "Follow"]
    assert played.response is played.responses[1]
    assert played.discarded == [played.responses[0]]
    with pytest.warns(DeprecationWarning, match=r"Played\.answer is now Played\.response"):
        assert played.answer is played.response


def test_the_body_of_a_played_response_can_be_read_when_the_flow_has_ended() -> None:
    played = play(flexmw.Retry(attempts=2), [503, 200], httpx.Request("GET", "https://api.test/"))
    assert [response.json() for response in played.responses] == [{"ok": True}, {"ok": True}]


def reads(self: Component, request: Any) -> Steps:
    response = yield flexmw.Send(request)
    whole = yield flexmw.Read(response, 100)
    none = yield flexmw.Read(response, 3)
    beginning = yield flexmw.Read(response, 3, partial=True)
    self.memory["bodies"] = [whole, none, beginning]
    yield flexmw.Skip(response, 2)
    self.memory["bodies"].append((yield flexmw.Read(response, 100)))
    return (yield flexmw.Replace(response, b"other"))


@pytest.mark.parametrize("outcome", [200, httpx.Response(200, content=b'{"ok":true}')])
def test_a_played_flow_reads_bodies_as_on_a_transport(outcome: Any) -> None:
    component = Component(steps=reads)
    played = play(component, [outcome], httpx.Request("GET", "https://api.test/"))
    assert component.memory["bodies"] == [b'{"ok":true}', None, b'{"o', b'ok":true}']
    assert played.response.content == b"other"
    assert not played.faults


def test_play_without_outcomes_is_refused() -> None:
    with pytest.raises(flexmw.ConfigError, match="at least one outcome"):
        play(flexmw.Retry(), [], httpx.Request("GET", "https://api.test/"))
