"""When an upstream is asked, and when it is left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from calls import Upstreams, call
from flexmw_fallback import Fallback, Upstream
from flexmw_fallback._circuits import Circuit, CircuitOptions, Circuits, CircuitState

import flexmw
from flexmw.testing import FakeClock
from flexmw.testing.hostile import Response, closed_port

Serve = Callable[..., Upstreams]

OPTIONS = CircuitOptions(failures=3, window=30.0, cooldown=10.0)


def fail(circuit: Circuit, now: float, **details: Any) -> bool:
    """Enter and fail; whether the circuit let the call through."""
    entry = circuit.enter(now)
    if entry is not None:
        circuit.leave(entry, "failure", now, **details)
    return entry is not None


def test_failures_in_a_row_open_a_circuit() -> None:
    circuit = Circuit(OPTIONS)
    assert [fail(circuit, 0.0) for _ in range(4)] == [True, True, True, False]


def test_failures_that_lie_far_apart_do_not() -> None:
    circuit = Circuit(OPTIONS)
    assert all(fail(circuit, float(now)) for now in range(0, 200, 16))


@pytest.mark.parametrize(("event", "opens"), [("success", False), ("neutral", True)])
def test_a_success_ends_the_row_and_a_neutral_result_does_not(event: Any, opens: bool) -> None:
    circuit = Circuit(OPTIONS)
    for _ in range(2):
        fail(circuit, 0.0)
    entry = circuit.enter(0.0)
    assert entry is not None
    circuit.leave(entry, event, 0.0)
    fail(circuit, 0.0)
    assert (circuit.enter(0.0) is None) is opens


def test_a_wait_that_the_upstream_names_opens_it_at_once() -> None:
    circuit = Circuit(OPTIONS)
    fail(circuit, 0.0, wait=4.0, status=429)
    assert circuit.state(1.0).wait == 3.0
    assert (circuit.state(1.0).named, circuit.state(1.0).status) == (True, 429)


def test_after_the_cooldown_one_call_is_the_probe_and_its_success_closes_the_circuit() -> None:
    circuit = Circuit(OPTIONS)
    fail(circuit, 0.0, wait=4.0)
    probe = circuit.enter(4.0)
    assert probe is not None
    assert probe.probe
    assert circuit.enter(4.0) is None, "others go elsewhere"
    circuit.leave(probe, "success", 5.0)
    assert [circuit.enter(5.0) is not None for _ in range(3)] == [True] * 3


@pytest.mark.parametrize(("wait", "named", "again"), [(4.0, True, 4.0), (20.0, True, 10.0), (4.0, False, 10.0)])
def test_a_probe_that_fails_opens_the_circuit_again(wait: float, named: bool, again: float) -> None:
    circuit = Circuit(OPTIONS)
    fail(circuit, 0.0, wait=wait, named=named)
    assert fail(circuit, wait)
    assert (circuit.state(wait).wait, circuit.state(wait).named) == (again, named)


def test_a_probe_that_fails_after_failures_opens_it_for_the_cooldown() -> None:
    circuit = Circuit(OPTIONS)
    for _ in range(3):
        fail(circuit, 0.0)
    assert fail(circuit, 10.0)
    assert circuit.state(10.0) == CircuitState(wait=10.0, named=False, status=None)


def test_a_neutral_probe_gives_its_place_to_the_next_call() -> None:
    circuit = Circuit(OPTIONS)
    fail(circuit, 0.0, wait=4.0)
    probe = circuit.enter(4.0)
    assert probe is not None
    circuit.leave(probe, "neutral", 5.0)
    another = circuit.enter(5.0)
    assert another is not None
    assert another.probe


@pytest.mark.parametrize("event", ["success", "failure"])
def test_calls_from_before_do_not_decide_for_a_circuit_that_has_opened(event: Any) -> None:
    circuit = Circuit(OPTIONS)
    before = circuit.enter(0.0)
    assert before is not None
    fail(circuit, 0.0, wait=4.0)
    circuit.leave(before, event, 1.0)
    assert circuit.state(1.0).wait == 3.0


def test_circuits_that_were_not_used_for_long_are_forgotten() -> None:
    circuits = Circuits()
    first = circuits.of(("0", b""), OPTIONS)
    for number in range(1, 1001):
        circuits.of((str(number), b""), OPTIONS)
    assert circuits.of(("0", b""), OPTIONS) is not first


def test_a_refusing_upstream_is_not_asked_again_before_its_time(serve: Serve) -> None:
    upstreams = serve(["429:seconds=30"], "ok")
    fallback = upstreams.fallback()
    for _ in range(3):
        assert call(upstreams, fallback).response.status_code == 200
    assert upstreams.seen == [1, 3], "A, B, B, B and not A, A, A, B"
    upstreams.clock.advance(31)
    assert call(upstreams, fallback).outcome.upstream == upstreams.servers[0].url


@pytest.mark.parametrize("fault", ["500", "rst", "429"])
def test_failures_without_a_wait_open_it_after_five(serve: Serve, fault: str) -> None:
    upstreams = serve(fault, "ok")
    fallback = upstreams.fallback()
    for _ in range(8):
        call(upstreams, fallback)
    assert upstreams.seen[0] == 5


def test_429_is_no_success(serve: Serve) -> None:
    upstreams = serve(["500", "500", "429", "500", "500", "ok"], "ok")
    fallback = upstreams.fallback()
    for _ in range(6):
        call(upstreams, fallback)
    assert upstreams.seen[0] == 5


def test_a_wait_of_a_day_is_capped(serve: Serve) -> None:
    upstreams = serve(["429:seconds=86400"], "ok")
    fallback = upstreams.fallback(max_retry_after=60.0)
    call(upstreams, fallback)
    upstreams.clock.advance(59)
    assert call(upstreams, fallback).outcome.upstream == upstreams.servers[1].url
    upstreams.clock.advance(2)
    assert call(upstreams, fallback).outcome.upstream == upstreams.servers[0].url


def test_where_every_upstream_refuses_the_caller_gets_the_smallest_wait(serve: Serve) -> None:
    headers = (("X-Should-Retry", "true"),)
    upstreams = serve("429:seconds=900", Response(429, retry="seconds", wait=300.0, headers=headers), "429:seconds=700")
    result = call(upstreams, upstreams.fallback())
    assert (result.response.status_code, result.response.headers["retry-after"]) == (429, "300")
    assert result.response.headers["x-should-retry"] == "true"
    assert result.response.json()["error"]
    assert (result.outcome.outcome, result.outcome.upstream) == ("refused", upstreams.servers[1].url)
    assert upstreams.seen == [1, 1, 1]
    assert upstreams.clock.slept == []


def test_the_refusal_of_a_response_helps_more_than_an_error_or_a_circuit_that_is_open(serve: Serve) -> None:
    upstreams = serve("429:seconds=900")
    with closed_port() as second:
        fallback = Fallback(Upstream(upstreams.servers[0].url), Upstream(second), clock=upstreams.clock)
        result = call(upstreams, fallback, retry=flexmw.Retry(attempts=1, clock=upstreams.clock))
    assert (result.response.status_code, result.outcome.upstream) == (429, upstreams.servers[0].url)


def test_a_call_waits_for_the_upstream_that_is_back_first(serve: Serve) -> None:
    upstreams = serve(["429:seconds=20"], ["429:seconds=5"])
    result = call(upstreams, upstreams.fallback())
    assert (result.response.status_code, result.outcome.upstream) == (200, upstreams.servers[1].url)
    assert (upstreams.executions, upstreams.seen) == ([0, 1], [1, 2])
    assert 5.0 <= sum(upstreams.clock.slept) <= 5.5
    assert result.outcome.waited == sum(upstreams.clock.slept)


def test_while_all_are_cooling_a_call_gets_a_refusal_and_nothing_is_sent(serve: Serve) -> None:
    upstreams = serve("429:seconds=50", "429:seconds=40")
    fallback = upstreams.fallback(deadline=20.0)
    assert call(upstreams, fallback).response.headers["retry-after"] == "40"
    again = call(upstreams, fallback)
    assert upstreams.seen == [1, 1]
    assert (again.response.status_code, again.response.headers["retry-after"]) == (429, "40")
    assert again.response.json()["error"]["code"] == "rate_limit_exceeded"
    outcome = again.outcome
    assert (outcome.outcome, outcome.reason, outcome.attempts, outcome.upstream) == ("refused", "all_cooling", 0, None)


def test_without_another_upstream_the_retry_inside_has_its_own_attempts_again(serve: Serve, clock: FakeClock) -> None:
    upstreams = serve(["429:seconds=2"])
    with closed_port() as first:
        upstream = Upstream(f"{upstreams.servers[0].url}/v1")
        fallback = Fallback(Upstream(f"{first}/v1"), upstream, clock=clock, failures=1)
        for _ in range(2):
            result = call(upstreams, fallback, url=f"{first}/v1/jobs")
    assert result.response.status_code == 200
    assert upstreams.executions == [2]
    assert 2.0 <= sum(clock.slept) <= 2.5


def test_the_attempts_over_all_upstreams_are_bounded(serve: Serve) -> None:
    upstreams = serve("429:seconds=1", "429:seconds=1", "429:seconds=1")
    result = call(upstreams, upstreams.fallback())
    assert (sum(upstreams.seen), result.outcome.attempts) == (5, 5)
    upstreams = serve("503", "503", "503")
    assert call(upstreams, upstreams.fallback(attempts_total=2), method="GET").outcome.attempts == 2
    assert upstreams.seen == [1, 1, 0]


@pytest.mark.parametrize("of_retry", [True, False])
def test_one_deadline_holds_for_all_upstreams(serve: Serve, of_retry: bool) -> None:
    upstreams = serve("429:seconds=4", "429:seconds=4")
    retry = flexmw.Retry(clock=upstreams.clock, deadline=6.0 if of_retry else None)
    began = upstreams.clock.monotonic()
    result = call(upstreams, upstreams.fallback(deadline=None if of_retry else 6.0), retry=retry)
    assert result.response.status_code == 429
    assert upstreams.clock.monotonic() - began <= 6.0
    assert sum(upstreams.seen) == 4


def test_a_call_counts_once_in_the_budget_of_retry(serve: Serve) -> None:
    upstreams = serve("500", "500")
    retry = flexmw.Retry(clock=upstreams.clock, budget_ratio=1.0, budget_per_second=0.0, attempts=9)
    fallback = upstreams.fallback(failures=1000, attempts_total=9)
    attempts = [call(upstreams, fallback, retry=retry, method="GET").outcome.attempts for _ in range(4)]
    assert attempts == [4, 3, 3, 3], "one switch, and the retry that the call has earned; the budget begins with one"


def test_a_thousand_calls_storm_neither_an_upstream_that_dies_nor_one_that_is_back(clock: FakeClock) -> None:
    dead, seen = True, {"a.test": 0, "b.test": 0}

    async def respond(request: Any) -> Any:
        seen[request.url.host] += 1
        is_refused = dead and request.url.host == "a.test"
        await anyio.lowlevel.checkpoint()
        return httpx2.Response(503 if is_refused else 200, json={}, headers={"x-should-retry": "true"})

    async def calls(client: Any, count: int) -> None:
        limiter = anyio.CapacityLimiter(10)

        async def one() -> None:
            async with limiter:
                assert (await client.post("http://a.test/jobs", json={})).status_code == 200

        async with anyio.create_task_group() as tasks:
            for _ in range(count):
                tasks.start_soon(one)

    async def main() -> None:
        nonlocal dead
        fallback = Fallback(Upstream("http://a.test"), Upstream("http://b.test"), clock=clock)
        transport = httpx2.MockTransport(respond)
        retry = flexmw.Retry(clock=clock, refused_503="any")
        client = flexmw.wrap_client(httpx2.AsyncClient(transport=transport), fallback, retry, clock=clock)
        async with client:
            await calls(client, 1000)
            assert 5 <= seen["a.test"] <= 5 + 9, "five, and those that were under way"
            clock.advance(31)
            before = seen["a.test"]
            await calls(client, 200)
            assert seen["a.test"] - before == 1, "one probe"
            clock.advance(31)
            dead, before = False, seen["a.test"]
            await calls(client, 200)
            assert seen["a.test"] - before >= 190, "the first call is the probe, and then all go there again"

    anyio.run(main)
    assert sum(seen.values()) >= 1400


def test_a_call_in_the_queue_of_the_pool_sees_that_the_circuit_has_opened(serve: Serve) -> None:
    upstreams = serve("429:seconds=30", "ok")
    fallback = upstreams.fallback()
    url = f"{upstreams.servers[0].url}/v1/jobs"

    async def main() -> None:
        limits = httpx.Limits(max_connections=2)
        async with upstreams.wrap(httpx.AsyncClient(limits=limits, timeout=30.0), fallback) as client:

            async def one() -> None:
                assert (await client.post(url, json={})).status_code == 200

            async with anyio.create_task_group() as tasks:
                for _ in range(30):
                    tasks.start_soon(one)

    anyio.run(main)
    assert upstreams.seen[0] <= 2
    assert upstreams.executions[1] == 30


def test_a_cancelled_probe_gives_its_place_back(serve: Serve) -> None:
    upstreams = serve(["429:seconds=5", "hang"], "ok")
    fallback = upstreams.fallback()
    url = f"{upstreams.servers[0].url}/v1/jobs"

    async def main() -> None:
        async with upstreams.wrap(httpx.AsyncClient(timeout=30.0), fallback) as client:
            await client.post(url, json={})
            upstreams.clock.advance(6)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.get, url)
                await anyio.to_thread.run_sync(upstreams.servers[0].wait_for, 1)
                during = await client.post(url, json={})
                assert during.extensions["flexmw"].upstream == upstreams.servers[1].url
                tasks.cancel_scope.cancel()
            after = await client.post(url, json={})
            assert after.extensions["flexmw"].upstream == upstreams.servers[0].url

    anyio.run(main)


def test_circuits_are_kept_for_each_credential(serve: Serve) -> None:
    upstreams = serve(["429:seconds=30"], "ok")
    fallback = upstreams.fallback()
    for key, served_by in (("one", 1), ("one", 1), ("two", 0)):
        result = call(upstreams, fallback, headers={"authorization": f"Bearer {key}"})
        assert result.outcome.upstream == upstreams.servers[served_by].url


@pytest.mark.parametrize(
    ("remaining", "more", "asked"),
    [("59", (), 2), ("0", (), 1), ("59", (("retry-after", "30"),), 1)],
    ids=["overload", "used-up", "retry-after"],
)
def test_the_reset_of_a_limit_cools_an_upstream_only_where_the_limit_has_refused(
    serve: Serve, remaining: str, more: tuple[tuple[str, str], ...], asked: int
) -> None:
    limit = (("x-ratelimit-limit", "60"), ("x-ratelimit-remaining", remaining), ("x-ratelimit-reset", "30"))
    upstreams = serve(Response(529, headers=limit + more, executes=False), "ok")
    fallback = upstreams.fallback(also={529})
    for _ in range(2):
        assert call(upstreams, fallback).response.status_code == 200
    assert upstreams.seen[0] == asked


def test_requests_that_are_signed_one_by_one_share_a_circuit(serve: Serve) -> None:
    upstreams = serve(["429:seconds=30"], "ok")
    fallback = upstreams.fallback()
    for number in range(3):
        signed = f'OAuth oauth_consumer_key="k", oauth_token="t", oauth_nonce="{number}", oauth_signature="{number}"'
        result = call(upstreams, fallback, headers={"authorization": signed})
        assert result.outcome.upstream == upstreams.servers[1].url
    assert upstreams.seen[0] == 1


def test_circuits_are_kept_for_each_account_of_a_credential(serve: Serve) -> None:
    upstreams = serve(["429:seconds=30"], "ok")
    fallback = upstreams.fallback()
    for account, served_by in (("one", 1), ("one", 1), ("two", 0)):
        result = call(upstreams, fallback, headers={"authorization": "Bearer key", "OpenAI-Organization": account})
        assert result.outcome.upstream == upstreams.servers[served_by].url


def test_a_forked_child_probes_an_upstream_that_a_call_of_its_parent_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    circuit = Circuit(CircuitOptions(failures=1, window=30.0, cooldown=10.0))
    entry = circuit.enter(0.0)
    assert entry is not None
    circuit.leave(entry, "failure", 0.0)
    assert [circuit.enter(10.0) is None, circuit.enter(10.0) is None] == [False, True]
    monkeypatch.setattr("flexmw_fallback._circuits.getpid", lambda: 1)
    assert [circuit.enter(10.0) is None, circuit.enter(10.0) is None] == [False, True]
