from __future__ import annotations

from typing import Any

import anyio
import httpx
import httpx2
import pytest
from flexmw_circuit_breaker import CircuitBreaker, CircuitOpen
from flexmw_circuit_breaker._circuits import MOST, Circuits

import flexmw
from flexmw.testing import FakeClock, HostileServer, check_flow, play

GET = httpx.Request("GET", "https://api.test/")


def breaker(clock: FakeClock, **options: Any) -> CircuitBreaker:
    return CircuitBreaker(**{"failures": 2, "cooldown": 10.0, "clock": clock.monotonic, **options})


def sent(component: Any, outcome: Any, request: Any = GET) -> int:
    return play(component, [outcome], request).count(flexmw.Send)


def test_it_behaves_inside_a_client() -> None:
    check_flow(CircuitBreaker())


@pytest.mark.parametrize("failure", [500, 503, httpx.ReadTimeout("no response")])
def test_calls_stop_after_failures_in_a_row(failure: Any) -> None:
    component = breaker(FakeClock())
    assert [sent(component, failure) for _ in range(4)] == [1, 1, 0, 0]


@pytest.mark.parametrize("response", [200, 404, 429])
def test_a_server_that_responds_works(response: int) -> None:
    component = breaker(FakeClock())
    assert [sent(component, each) for each in (500, response, 500, response, 500, response)] == [1] * 6


def test_after_the_cooldown_one_call_tries_and_opens_the_way() -> None:
    clock = FakeClock()
    component = breaker(clock)
    sent(component, 500), sent(component, 500)
    clock.advance(9.9)
    assert sent(component, 200) == 0
    clock.advance(0.1)
    assert [sent(component, 200), sent(component, 200)] == [1, 1]


def test_a_try_that_fails_starts_the_cooldown_anew() -> None:
    clock = FakeClock()
    component = breaker(clock)
    sent(component, 500), sent(component, 500)
    clock.advance(10)
    assert [sent(component, 500), sent(component, 200)] == [1, 0]
    clock.advance(10)
    assert sent(component, 200) == 1


def test_only_one_call_tries_and_another_may_if_it_is_given_up() -> None:
    clock = FakeClock()
    component = breaker(clock)
    sent(component, 500), sent(component, 500)
    clock.advance(10)
    trying = component.flow(GET)
    next(trying)
    assert sent(component, 200) == 0
    trying.close()
    assert sent(component, 200) == 1


@pytest.mark.parametrize("late", [200, 500])
def test_calls_from_before_do_not_decide_for_the_one_that_tries(late: int) -> None:
    clock = FakeClock()
    component = breaker(clock)
    before = component.flow(GET)
    next(before)
    sent(component, 500), sent(component, 500)
    clock.advance(10)
    trying = component.flow(GET)
    next(trying)
    with pytest.raises(StopIteration):
        before.send(httpx.Response(late))
    assert sent(component, 200) == 0
    with pytest.raises(StopIteration):
        trying.send(httpx.Response(200))
    assert sent(component, 200) == 1


def test_origins_do_not_share_a_circuit() -> None:
    component = breaker(FakeClock())
    sent(component, 500), sent(component, 500)
    assert sent(component, 200, httpx.Request("GET", "https://api.test:8443/")) == 1
    assert sent(component, 200, httpx.Request("GET", "https://other.test/")) == 1


def test_a_cancelled_call_is_no_failure() -> None:
    component = breaker(FakeClock(), failures=1)
    assert [sent(component, KeyboardInterrupt()), sent(component, 200)] == [1, 1]


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_the_refusal_is_the_connect_error_of_the_clients_library(library: Any) -> None:
    with HostileServer("503") as server:
        client = flexmw.wrap_client(library.Client(), CircuitBreaker(failures=1))
        with client:
            client.get(server.url)
            with pytest.raises(library.ConnectError, match="Nothing was sent") as caught:
                client.get(server.url)
        assert isinstance(caught.value, CircuitOpen)
        assert caught.value.origin == server.url
        assert 0 < caught.value.wait <= 30
        assert server.executions == 1


def test_what_it_refuses_is_not_retried() -> None:
    with HostileServer("503") as server:
        client = flexmw.wrap_client(
            httpx2.AsyncClient(), CircuitBreaker(failures=1), flexmw.Retry(attempts=3), clock=FakeClock()
        )

        async def calls() -> None:
            async with client:
                await client.get(server.url)
                with pytest.raises(CircuitOpen):
                    await client.get(server.url)

        anyio.run(calls)
        assert len(server.requests) == 3


def test_it_belongs_outside_retry() -> None:
    with pytest.raises(flexmw.ConfigError, match=r"right is: contrib\.breaker, retry"):
        flexmw.wrap_client(httpx.Client(), flexmw.Retry(), CircuitBreaker())


@pytest.mark.parametrize(
    ("option", "value"),
    [("failures", 0), ("failures", 1.5), ("cooldown", 0), ("cooldown", float("inf")), ("statuses", ("500",))],
)
def test_options_that_cannot_work_are_refused(option: str, value: Any) -> None:
    with pytest.raises(flexmw.ConfigError, match=option):
        CircuitBreaker(**{option: value})


def test_origins_that_were_not_called_for_long_are_forgotten() -> None:
    circuits = Circuits()
    first = circuits.of("https://0.test")
    for number in range(1, MOST + 1):
        circuits.of(f"https://{number}.test")
    assert circuits.of("https://0.test") is not first


def test_a_forked_child_tries_an_origin_that_a_call_of_its_parent_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    circuit = Circuits().of("https://api.test")
    circuit.leave(circuit.enter(0.0), False, 0.0, failures=1, cooldown=10.0)
    assert [circuit.enter(10.0).trying, circuit.enter(10.0).trying] == [True, False]
    monkeypatch.setattr("flexmw_circuit_breaker._circuits.getpid", lambda: 1)
    assert [circuit.enter(10.0).trying, circuit.enter(10.0).trying] == [True, False]
