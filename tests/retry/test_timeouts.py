"""Without a deadline every attempt keeps the caller's timeouts; with one, the whole call ends in time."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from h2.settings import SettingCodes

import flexmw
from flexmw.testing import FakeClock, HostileServer
from flexmw.testing.hostile import Exchange, Fault, Response
from tests.clients.wires import WIRES, Wire
from tests.retry.outcomes import outcome
from tests.waiting import LONGEST_WAIT

wires = pytest.mark.parametrize("wire", WIRES, ids=str)
async_wires = pytest.mark.parametrize("wire", [wire for wire in WIRES if wire.backend], ids=str)
both = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
OWN = {"connect": 600.0, "read": 600.0, "write": 600.0, "pool": 600.0}


@dataclass(frozen=True)
class Drops(Fault):
    """A good response whose ``part`` comes in drops, for twelve seconds."""

    part: str = "body"

    def run(self, exchange: Exchange) -> None:
        exchange.execute()
        if self.part == "head":
            for byte in b"HTTP/1.1 200 OK\r\nx-padding: " + b"x" * 220:
                exchange.raw(bytes([byte]))
                exchange.pause(0.05)
            exchange.raw(b"\r\nContent-Length: 0\r\n\r\n")
        elif self.part == "1xx":
            for _ in range(240):
                exchange.raw(b"HTTP/1.1 103 Early Hints\r\n\r\n")
                exchange.pause(0.05)
            exchange.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        else:
            exchange.start(200, (), 240)
            for _ in range(240):
                exchange.send(b"x")
                exchange.pause(0.05)
            exchange.end()


# --- without a deadline ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [5.0, 78.0, 92.0, 500.0])
def test_every_attempt_that_begins_keeps_the_caller_s_timeouts(first: float) -> None:
    clock = FakeClock()
    request = httpx.Request("GET", "http://test", extensions={"timeout": OWN})
    flow = flexmw.Retry(clock=clock).flow(request)
    effect: Any = next(flow)
    assert effect.request.extensions["timeout"] == OWN
    clock.advance(first)
    flow.send(httpx.Response(503, headers={"retry-after": "55"}))  # discarded
    flow.send(None)  # scheduled
    sleep: Any = flow.send(None)
    assert sleep.seconds >= 55.0
    effect = flow.send(None)
    effect.observe("http11.send_request_headers.started", {})
    assert effect.request.extensions["timeout"] == OWN
    assert "flexmw.deadline" not in effect.request.extensions


def test_no_attempt_begins_later_than_90_seconds_after_the_first_one_has_failed() -> None:
    clock = FakeClock()
    request = httpx.Request("GET", "http://test")
    flow = flexmw.Retry(clock=clock, attempts=10, jitter=0.0, random=lambda: 0.0).flow(request)

    def run() -> None:
        effect: Any = next(flow)
        while True:
            if isinstance(effect, flexmw.Send):
                clock.advance(40.0)
                effect = flow.throw(httpx.ReadTimeout("no"))
            else:
                effect = next(flow)

    with pytest.raises(httpx.ReadTimeout) as caught:
        run()
    assert (outcome(caught.value).reason, outcome(caught.value).attempts) == ("deadline", 4)


@wires
def test_a_longer_wait_than_90_seconds_works_where_it_is_allowed(wire: Wire) -> None:
    clock = FakeClock()
    with HostileServer(["429:seconds=171", "429:seconds=300"]) as server:
        policy = flexmw.Retry(clock=clock, max_retry_after=600.0, jitter=0.0)
        [result] = wire.call("POST", server.url, policy, clock=clock)
    assert (result.status_code, clock.slept) == (200, [171.0, 300.0])


# --- with a deadline -------------------------------------------------------------------------------------------------


@async_wires
@pytest.mark.parametrize("part", ["head", "1xx", "body"])
def test_an_async_call_ends_at_its_deadline_whatever_drips(wire: Wire, part: str) -> None:
    with HostileServer(then=Drops(part)) as server:
        began = time.monotonic()
        [error] = wire.call("POST", server.url, flexmw.Retry(deadline=0.8))
        assert time.monotonic() - began < 8.0
    assert type(error).__name__ == "ReadTimeout"
    assert outcome(error).outcome == "ambiguous"


@both
def test_a_blocking_call_ends_its_body_at_the_deadline(library: Any) -> None:
    with (
        HostileServer(then=Drops()) as server,
        flexmw.wrap_client(library.Client(trust_env=False), flexmw.Retry(deadline=0.8)) as client,
    ):
        began = time.monotonic()
        with pytest.raises(library.ReadTimeout) as caught:
            client.post(server.url)
        assert time.monotonic() - began < 8.0
    assert outcome(caught.value).outcome == "ambiguous"


@wires
def test_one_deadline_counts_all_redirects(wire: Wire) -> None:
    clock = FakeClock()
    with HostileServer(then=Response(302, headers=(("Location", "/again"),))) as server:

        class Slow:
            def flow(self, request: Any) -> Any:
                clock.advance(1.0)
                return (yield flexmw.Send(request))

        policy = flexmw.Retry(deadline=3.5, clock=clock)
        options = {"follow_redirects": True}
        [error] = wire.call("GET", server.url, policy, Slow(), clock=clock, client=options)
        assert len(server.requests) in (3, 4)
    assert type(error).__name__ == "PoolTimeout"
    assert (outcome(error).outcome, outcome(error).reason) == ("unsent", "deadline")


@wires
def test_one_deadline_counts_the_steps_of_authentication(wire: Wire) -> None:
    clock = FakeClock()

    class TwoSteps(wire.library.Auth):  # type: ignore[name-defined, misc]
        requires_response_body = True

        def auth_flow(self, request: Any) -> Any:
            yield request
            clock.advance(3.0)
            yield request

    with HostileServer() as server:
        policy = flexmw.Retry(deadline=2.0, clock=clock)
        [error] = wire.call("POST", server.url, policy, clock=clock, client={"auth": TwoSteps()})
        assert len(server.requests) == 1
    assert (outcome(error).outcome, outcome(error).reason) == ("unsent", "deadline")


@both
def test_a_request_that_is_sent_again_later_has_a_new_deadline(library: Any) -> None:
    clock = FakeClock()
    with HostileServer(then=Response(302, headers=(("Location", "/again"),))) as server:
        client = flexmw.wrap_client(
            library.Client(trust_env=False), flexmw.Retry(deadline=2.0, clock=clock), clock=clock
        )
        with client:
            request = client.build_request("GET", server.url)
            first = client.send(request)
            clock.advance(10.0)
            assert client.send(request).status_code == 302
            clock.advance(10.0)
            assert client.send(first.next_request).status_code == 302
            assert len(server.requests) == 3


@dataclass(frozen=True)
class OneAtATime(Fault):
    """From now on the server takes one stream at a time."""

    protocol = "http2"

    def run(self, exchange: Any) -> None:
        connection = exchange._connection
        with connection.changed:
            connection.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 1})
            connection.flush()
        Response().run(exchange)


@dataclass(frozen=True)
class Late(Fault):
    def run(self, exchange: Exchange) -> None:
        exchange.pause(1.5)
        Response().run(exchange)


@both
def test_a_post_whose_deadline_is_over_when_its_stream_is_free_is_never_sent(library: Any) -> None:
    with HostileServer([OneAtATime(), Late()], tls=True, http2=True) as server:
        plain = library.Client(http2=True, verify=server.client_context(), trust_env=False, timeout=20.0)
        with flexmw.wrap_client(plain, flexmw.Retry()) as client, ThreadPoolExecutor() as pool:
            client.get(server.url)
            slow = pool.submit(client.get, server.url)
            server.wait_for(2, "requests")
            with flexmw.retry_options(deadline=0.5), pytest.raises(library.TimeoutException) as caught:
                client.post(server.url, json={})
            assert slow.result(LONGEST_WAIT).status_code == 200
            assert len(server.requests) == 2
    assert outcome(caught.value).outcome == "unsent"


@async_wires
def test_an_async_post_that_waits_for_a_stream_until_its_deadline_is_unsent(wire: Wire) -> None:
    async def run() -> None:
        plain = wire.library.AsyncClient(http2=True, verify=server.client_context(), trust_env=False, timeout=20.0)
        async with flexmw.wrap_client(plain, flexmw.Retry()) as client, anyio.create_task_group() as group:
            await client.get(server.url)
            group.start_soon(client.get, server.url)
            await anyio.to_thread.run_sync(lambda: server.wait_for(2, "requests"))
            with pytest.raises(wire.library.PoolTimeout) as caught:
                await client.post(server.url, json={}, extensions={"flexmw.retry": {"deadline": 0.5}})
            errors.append(caught.value)

    errors: list[Any] = []
    with HostileServer([OneAtATime(), Late()], tls=True, http2=True) as server:
        anyio.run(run, backend=wire.backend or "asyncio")
        assert len(server.requests) == 2
    assert [(outcome(error).outcome, outcome(error).reason) for error in errors] == [("unsent", "deadline")]


# --- neighbours over HTTP/2 ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ByPath(Fault):
    """``/late`` is answered after 1.5 seconds; any other path is refused, with a body that never ends."""

    def run(self, exchange: Exchange) -> None:
        if exchange.request.target == "/late":
            exchange.pause(1.5)
            Response().run(exchange)
            return
        exchange.start(503, (("Retry-After", "1"), ("Content-Type", "application/json")), 1000)
        exchange.pause(None)


@both
@pytest.mark.parametrize("deadline", [None, 0.5])
def test_a_refusal_that_stalls_and_a_deadline_leave_the_neighbours_of_a_blocking_call_alone(
    library: Any, deadline: float | None
) -> None:
    with HostileServer(then=ByPath(), tls=True, http2=True) as server:
        plain = library.Client(http2=True, verify=server.client_context(), trust_env=False, timeout=20.0)
        policy = flexmw.Retry(attempts=2, jitter=0.0)
        with flexmw.wrap_client(plain, policy) as client, ThreadPoolExecutor() as pool:
            late = pool.submit(client.post, f"{server.url}/late", json={})
            server.wait_for(1, "requests")
            with flexmw.retry_options(deadline=deadline):
                try:
                    with client.stream("POST", server.url, json={}) as response:
                        assert response.status_code == 503
                except library.TransportError:
                    pass
            assert late.result(LONGEST_WAIT).status_code == 200


@async_wires
def test_a_deadline_leaves_the_neighbours_of_an_async_call_alone(wire: Wire) -> None:
    async def run() -> None:
        plain = wire.library.AsyncClient(http2=True, verify=server.client_context(), trust_env=False, timeout=20.0)
        async with flexmw.wrap_client(plain, flexmw.Retry()) as client, anyio.create_task_group() as group:

            async def late() -> None:
                results.append(await client.post(f"{server.url}/late", json={}))

            group.start_soon(late)
            await anyio.to_thread.run_sync(lambda: server.wait_for(1, "requests"))
            with pytest.raises(wire.library.ReadTimeout):
                await client.get(f"{server.url}/late", extensions={"flexmw.retry": {"deadline": 0.5}})

    results: list[Any] = []
    with HostileServer(then=ByPath(), tls=True, http2=True) as server:
        anyio.run(run, backend=wire.backend or "asyncio")
    assert [result.status_code for result in results] == [200]
