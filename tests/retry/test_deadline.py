"""What a deadline counts: the wait for a connection, giving an answer up, and what Pace would wait."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
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
from tests.waiting import LONGEST_WAIT

HEAD = "http11.send_request_headers.started"
MANY = 200


@dataclass(frozen=True)
class Drops(Fault):
    """A refusal whose small body comes in drops for ten seconds, unless the client leaves."""

    sent: list[bytes] = field(default_factory=list)

    def run(self, exchange: Exchange) -> None:
        exchange.start(503, (("Retry-After", "0.1"),), MANY)
        for _ in range(MANY):
            exchange.send(b"x")
            self.sent.append(b"x")
            exchange.pause(0.05)
        exchange.end()


class GivesUp:
    """Sends twice, and has a tenth of a second for giving the first answer up."""

    def flow(self, request: Request) -> Flow:
        yield Discard((yield Send(request)), 0.1)
        return (yield Send(request))


@pytest.mark.parametrize("wire", WIRES, ids=str)
def test_giving_a_response_up_takes_no_longer_than_it_may(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    for transport in ("transport_blocking", "transport_async"):
        monkeypatch.setattr(f"flexmw.kit.{transport}.DRAIN_SECONDS", 1000.0)
    drops = Drops()
    with HostileServer([drops]) as server:
        [result] = wire.call("POST", server.url, GivesUp())
        assert len(drops.sent) < MANY
    assert result.status_code == 200


def test_giving_a_response_up_may_take_half_of_what_the_deadline_leaves() -> None:
    clock = FakeClock()
    flow = flexmw.Retry(deadline=0.9, jitter=0.0, clock=clock).flow(httpx.Request("POST", "http://test"))
    next(flow)
    clock.advance(0.2)
    effect = flow.send(httpx.Response(503, headers={"retry-after": "0.1"}, json={}))
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
    clock, passed = FakeClock(), iter([59.9])

    def trace(event: str, details: Any) -> None:
        if event == "connection.connect_tcp.complete":
            clock.advance(next(passed))

    client = flexmw.wrap_client(
        library.Client(timeout=LONGEST_WAIT, trust_env=False),
        flexmw.Retry(deadline=60.0, attempts=1, clock=clock),
        clock=clock,
    )
    with HostileServer(then="hang") as server, client, ThreadPoolExecutor() as pool:
        call = pool.submit(client.get, server.url, timeout=60.0, extensions={"trace": trace})
        with pytest.raises(library.ReadTimeout):
            call.result(timeout=LONGEST_WAIT)


@pytest.mark.parametrize("wire", WIRES, ids=str)
def test_pace_waits_for_no_turn_that_comes_after_the_deadline(wire: Wire) -> None:
    clock = FakeClock()
    with HostileServer(then="429:seconds=50") as server:
        components = flexmw.Retry(deadline=20.0, clock=clock), flexmw.Pace(clock=clock)
        results = wire.call("GET", server.url, *components, clock=clock, times=2)
        assert len(server.requests) == 2
    assert clock.slept == []
    assert [outcome(result).reason for result in results] == ["deadline", "deadline"]
