"""What a deadline counts: the wait for a connection, giving an answer up, and what Pace would wait."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import httpx2
import pytest

import flexmw
from flexmw.kit.effects import DEADLINE, Discard, Flow, Request, Send
from flexmw.testing import FakeClock, HostileServer
from flexmw.testing.hostile import Exchange, Fault
from tests.clients.wires import WIRES, Wire
from tests.retry.outcomes import outcome

HEAD = "http11.send_request_headers.started"


@dataclass(frozen=True)
class Drops(Fault):
    """A refusal whose small body comes in drops for two seconds."""

    def run(self, exchange: Exchange) -> None:
        exchange.start(503, (("Retry-After", "0.1"),), 40)
        for _ in range(40):
            exchange.send(b"x")
            exchange.pause(0.05)
        exchange.end()


class GivesUp:
    """Sends twice, and has a tenth of a second for giving the first answer up."""

    def flow(self, request: Request) -> Flow:
        yield Discard((yield Send(request)), 0.1)
        return (yield Send(request))


@pytest.mark.parametrize("wire", WIRES, ids=str)
def test_giving_an_answer_up_takes_no_longer_than_it_may(wire: Wire) -> None:
    with HostileServer([Drops()]) as server:
        began = time.monotonic()
        [result] = wire.call("POST", server.url, GivesUp())
        assert time.monotonic() - began < 0.8
    assert result.status_code == 200


def test_giving_an_answer_up_may_take_half_of_what_the_deadline_leaves() -> None:
    clock = FakeClock()
    flow = flexmw.Retry(deadline=0.9, jitter=0.0, clock=clock).flow(httpx.Request("POST", "http://test"))
    next(flow)
    clock.advance(0.2)
    effect = flow.send(httpx.Response(503, headers={"retry-after": "0.1"}))
    assert isinstance(effect, Discard)
    assert effect.seconds == pytest.approx(0.3)


@pytest.mark.parametrize("deadline", [2.0, None])
def test_the_wait_for_a_connection_shortens_what_comes_after_it(deadline: float | None) -> None:
    clock = FakeClock()
    request = httpx.Request("POST", "http://test", extensions={"timeout": {"read": 5.0}})
    effect = next(flexmw.Retry(deadline=deadline, clock=clock).flow(request))
    assert isinstance(effect, Send)
    assert effect.observe is not None
    clock.advance(1.5)
    effect.observe(HEAD, {})
    assert effect.request.extensions["timeout"]["read"] == pytest.approx(5.0 if deadline is None else 0.5)
    assert effect.request.extensions.get(DEADLINE) == (None if deadline is None else clock.monotonic() + 0.5)


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_the_transport_heeds_what_is_left_when_the_head_goes_out(library: Any) -> None:
    limits = library.Limits(max_connections=1)
    with HostileServer(then="hang") as server:
        client = library.Client(limits=limits, trust_env=False)
        with flexmw.wrap_client(client, flexmw.Retry(deadline=2.0, attempts=1)), ThreadPoolExecutor() as pool:
            holder = pool.submit(kept, client, server.url, 1.2, {"flexmw.retry": None})
            server.wait_for(1, "requests")
            began = time.monotonic()
            error = kept(client, server.url, 20.0, {})
            took = time.monotonic() - began
            assert isinstance(holder.result(), library.ReadTimeout)
    assert isinstance(error, library.ReadTimeout)
    assert took < 2.7


def kept(client: Any, url: str, timeout: float, extensions: dict[str, Any]) -> Any:
    try:
        return client.get(url, extensions=extensions, timeout=timeout)
    except Exception as error:
        return error


@pytest.mark.parametrize("wire", WIRES, ids=str)
def test_pace_waits_for_no_turn_that_comes_after_the_deadline(wire: Wire) -> None:
    clock = FakeClock()
    with HostileServer(then="429:seconds=50") as server:
        components = flexmw.Retry(deadline=20.0, clock=clock), flexmw.Pace(clock=clock)
        results = wire.call("GET", server.url, *components, clock=clock, times=2)
        assert len(server.requests) == 2
    assert clock.slept == []
    assert [outcome(result).reason for result in results] == ["deadline", "deadline"]
