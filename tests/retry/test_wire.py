"""Retry over real sockets, on every client kind: one POST is one execution, and what is safe is recovered.

The promise in SECURITY.md: "No second execution of a request that flexmw says it executes once".
"""

from __future__ import annotations

import io
import socket
from collections.abc import Callable
from typing import Any

import pytest

import flexmw
from flexmw.testing import FakeClock, HostileServer
from tests.clients.wires import WIRES, Wire
from tests.retry.outcomes import outcome

pytestmark = pytest.mark.parametrize("wire", WIRES, ids=str)

SILENT = {"hang": 0.4, "stall-body": 0.4}
AMBIGUOUS = ["rst", "fin", "hang", "cut-head", "garbage", "cut-body", "stall-body", "500", "502", "503", "504", "408"]


@pytest.mark.parametrize("fault", AMBIGUOUS)
def test_an_unkeyed_post_is_executed_once_and_given_back_as_ambiguous(wire: Wire, fault: str) -> None:
    clock = FakeClock()
    with HostileServer([fault] * 5) as server:
        policy, read = flexmw.Retry(clock=clock), SILENT.get(fault, 20.0)
        [result] = wire.call("POST", server.url, policy, clock=clock, read=read, json={"n": 1})
        assert server.executions <= 1
        assert len(server.requests) == 1
    assert outcome(result).outcome == "ambiguous"
    assert outcome(result).reason == "unsafe_method"
    assert outcome(result).attempts == 1
    assert clock.slept == []


@pytest.mark.parametrize("fault", ["429", "429:seconds=2", "503:seconds=2", "425"])
def test_a_post_that_was_refused_is_sent_again(wire: Wire, fault: str) -> None:
    clock = FakeClock()
    with HostileServer([fault]) as server:
        [result] = wire.call("POST", server.url, flexmw.Retry(clock=clock), clock=clock, json={"n": 1})
        assert (result.status_code, server.executions, len(server.requests)) == (200, 1, 2)
        assert server.requests[0].body == server.requests[1].body
        assert server.connections == 1, "a small error body is drained, its connection used again"
    assert outcome(result) == flexmw.Outcome("answered", 2, clock.slept[0])


def test_a_post_that_never_left_is_sent_again(wire: Wire) -> None:
    clock, server = FakeClock(), HostileServer()
    with server, server.refusing():
        [result] = wire.call("POST", server.url, flexmw.Retry(clock=clock), clock=clock, json={"n": 1})
        assert server.executions == 0
    assert type(result).__name__ == "ConnectError"
    assert (outcome(result).outcome, outcome(result).attempts) == ("unsent", 3)
    assert outcome(result).reason == "attempts_exhausted"
    assert len(clock.slept) == 2


@pytest.mark.parametrize("fault", ["rst", "fin", "500", "502", "503", "504"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_an_idempotent_method_recovers(wire: Wire, method: str, fault: str) -> None:
    clock = FakeClock()
    with HostileServer([fault, fault]) as server:
        [result] = wire.call(method, server.url, flexmw.Retry(clock=clock), clock=clock)
        assert (result.status_code, len(server.requests)) == (200, 3)
    assert outcome(result).attempts == 3


def test_a_key_is_a_licence_only_where_it_is_honoured(wire: Wire) -> None:
    clock, headers = FakeClock(), {"Idempotency-Key": "k-1"}
    with HostileServer(["rst", "rst"], dedup=True) as server:
        [result] = wire.call("POST", server.url, flexmw.Retry(clock=clock), clock=clock, headers=headers)
        assert isinstance(result, Exception)
        assert outcome(result).key == "k-1"
        assert len(server.requests) == 1
        declared = flexmw.Retry(clock=clock, key_origins=(server.url,))
        [result] = wire.call("POST", server.url, declared, clock=clock, headers=headers)
        assert (result.status_code, server.executions) == (200, 1)


def test_trust_is_learned_from_responses(wire: Wire) -> None:
    clock, headers = FakeClock(), {"Idempotency-Key": "k-2"}
    with HostileServer(["ok", "rst"], dedup=True, key_ttl=60) as server:
        policy = flexmw.Retry(clock=clock, auto_key=True)
        first, second = wire.call("POST", server.url, policy, clock=clock, times=2)
        assert (first.status_code, second.status_code) == (200, 200)
        keys = [request.header("idempotency-key") for request in server.requests]
        assert keys[0] is None
        assert keys[1] is not None
        assert keys[1] == keys[2] == outcome(second).key
        assert server.executions == 2
        server.follow(["rst"])
        clock.advance(61)
        [third] = wire.call("POST", server.url, policy, clock=clock, headers=headers)
        assert isinstance(third, Exception), "what was learned has expired"


def test_the_caller_can_promise_that_repeating_does_no_harm(wire: Wire) -> None:
    clock = FakeClock()
    with HostileServer(["500"]) as server:
        with flexmw.retry_options(idempotent=True):
            [result] = wire.call("POST", server.url, flexmw.Retry(clock=clock), clock=clock)
        assert (result.status_code, server.executions) == (200, 2)


def test_a_wait_above_the_cap_gives_the_response_back_unchanged(wire: Wire) -> None:
    clock = FakeClock()
    with HostileServer(["429:seconds=61"]) as server:
        [result] = wire.call("POST", server.url, flexmw.Retry(clock=clock), clock=clock)
        assert len(server.requests) == 1
    assert (result.status_code, result.headers["retry-after"]) == (429, "61")
    assert (outcome(result).outcome, outcome(result).reason) == ("refused", "retry_after_too_long")
    assert result.json()["error"], "the body is still there to read"


def test_the_deadline_counts_waits_and_ends_the_call(wire: Wire) -> None:
    clock = FakeClock()
    policy = flexmw.Retry(attempts=10, deadline=5.0, jitter=0.0, clock=clock)
    with HostileServer(then="429:seconds=2") as server:
        [result] = wire.call("POST", server.url, policy, clock=clock)
        assert len(server.requests) == 3
    assert clock.slept == [2.0, 2.0]
    assert outcome(result).reason == "deadline"
    assert outcome(result).waited == 4.0


def test_an_explicit_deadline_shortens_the_timeouts_of_every_attempt(wire: Wire) -> None:
    with HostileServer(["hang"]) as server:
        [result] = wire.call("GET", server.url, flexmw.Retry(attempts=2, deadline=0.3), read=30.0)
        assert len(server.requests) == 1
    assert type(result).__name__ == "ReadTimeout"
    assert outcome(result).reason == "deadline"


def test_jitter_comes_on_top_of_what_the_server_asked_for(wire: Wire) -> None:
    clock = FakeClock()
    policy = flexmw.Retry(clock=clock, random=lambda: 0.5, jitter=0.5)
    with HostileServer(["429:seconds=2", "429:ms=0.7"]) as server:
        [result] = wire.call("POST", server.url, policy, clock=clock)
    assert clock.slept == [2.25, 0.95]
    assert result.status_code == 200


def test_a_budget_that_is_spent_gives_back(wire: Wire) -> None:
    clock = FakeClock()
    policy = flexmw.Retry(clock=clock, budget_ratio=0.0, budget_per_second=0.0)
    with HostileServer(then="429") as server:
        first, second = wire.call("POST", server.url, policy, clock=clock, times=2)
        assert len(server.requests) == 3
    assert outcome(first).reason == outcome(second).reason == "budget"


def bodies() -> dict[str, tuple[str, Callable[[], Any], bool]]:
    def generator() -> Any:
        yield b"payload"

    class Async:
        def __init__(self) -> None:
            self.done = False

        def __aiter__(self) -> Async:
            return self

        async def __anext__(self) -> bytes:
            if self.done:
                raise StopAsyncIteration
            self.done = True
            return b"payload"

    return {
        "bytes": ("content", lambda: b"payload", True),
        "json": ("json", lambda: {"payload": 1}, True),
        "form": ("data", lambda: {"payload": "1"}, True),
        "multipart": ("files", lambda: {"f": ("name", io.BytesIO(b"payload"))}, True),
        "file": ("content", lambda: io.BytesIO(b"payload"), True),
        "iterator": ("content", lambda: iter([b"pay", b"load"]), False),
        "generator": ("content", generator, False),
        "async": ("content", Async, False),
    }


@pytest.mark.parametrize("kind", list(bodies()))
def test_a_body_is_replayed_exactly_or_not_at_all(wire: Wire, kind: str) -> None:
    keyword, make, replayable = bodies()[kind]
    is_async_only, is_sync_only = kind == "async", kind in ("file", "iterator", "generator")
    if (wire.backend is None and is_async_only) or (wire.backend is not None and is_sync_only):
        return  # the client library itself refuses this body in this colour
    clock = FakeClock()
    with HostileServer(["503:seconds=1"]) as server:
        [result] = wire.call("PUT", server.url, flexmw.Retry(clock=clock), clock=clock, **{keyword: make})
        sent = [request.body for request in server.requests]
    assert b"payload" in sent[0]
    if replayable:
        assert result.status_code == 200
        boundary = [body.split(b"\r\n")[0] for body in sent]
        assert sent[0].replace(boundary[0], b"") == sent[1].replace(boundary[1], b"")
    else:
        assert (result.status_code, len(sent)) == (503, 1)
        assert outcome(result).reason == "body_not_replayable"


def test_a_one_shot_body_that_was_never_begun_may_go_out_later(wire: Wire) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    clock = FakeClock()
    make = (lambda: iter([b"x"])) if wire.backend is None else bodies()["async"][1]
    [result] = wire.call("POST", f"http://127.0.0.1:{port}", flexmw.Retry(clock=clock), clock=clock, content=make)
    assert outcome(result).outcome == "unsent"
    assert outcome(result).attempts == 3


def test_a_large_or_endless_error_body_is_closed_not_drained(wire: Wire) -> None:
    clock = FakeClock()
    with HostileServer(["big-error"]) as server:
        [result] = wire.call("GET", server.url, flexmw.Retry(clock=clock), clock=clock)
        assert (result.status_code, server.connections) == (200, 2)


def test_the_pool_is_whole_after_many_faults(wire: Wire) -> None:
    clock, limits = FakeClock(), wire.library.Limits(max_connections=1)
    script = ["503", "rst", "500", "big-error", "cut-body", "429:seconds=1", "fin", "ok"] * 3
    policy = flexmw.Retry(clock=clock, budget_per_second=1000.0)
    with HostileServer(script) as server:
        results = wire.call("GET", server.url, policy, clock=clock, client={"limits": limits}, times=12)
        assert not [result for result in results if type(result).__name__ == "PoolTimeout"]
        assert results[-1].status_code == 200


def test_the_callers_own_trace_and_extensions_are_kept(wire: Wire) -> None:
    seen: list[str] = []

    async def atrace(event: str, details: Any) -> None:
        seen.append(event)

    trace = (lambda event, details: seen.append(event)) if wire.backend is None else atrace
    clock, extensions = FakeClock(), {"trace": trace}
    with HostileServer(["503"]) as server:
        [result] = wire.call("GET", server.url, flexmw.Retry(clock=clock), clock=clock, extensions=dict(extensions))
    assert result.status_code == 200
    assert seen.count("http11.send_request_headers.started") == 2


def test_switched_off_for_one_call_nothing_is_touched(wire: Wire) -> None:
    with HostileServer(["503"]) as server:
        [result] = wire.call("GET", server.url, flexmw.Retry(), extensions={"flexmw.retry": None})
        assert (result.status_code, len(server.requests)) == (503, 1)
    assert "flexmw" not in result.extensions
