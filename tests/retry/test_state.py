"""What the calls of one Retry share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmw.retry.state import State


def spend(state: State, floor: float, now: float) -> int:
    """How many retries the budget gives out at this moment."""
    count = 0
    while state.withdraw(floor, now):
        count += 1
    return count


def test_a_budget_begins_with_one_second_of_its_floor() -> None:
    assert spend(State(), 10.0, 0.0) == 10


def test_a_budget_without_a_floor_begins_with_one_retry() -> None:
    assert spend(State(), 0.0, 0.0) == 1


def test_calls_earn_their_share_and_time_earns_the_floor() -> None:
    state = State()
    spend(state, 10.0, 0.0)
    for _ in range(50):
        state.deposit(0.2, 10.0, 0.0)
    assert spend(state, 10.0, 0.0) == 10
    assert spend(state, 10.0, 2.05) == 20


def test_an_idle_budget_saves_up_no_more_than_ten_seconds() -> None:
    state = State()
    spend(state, 10.0, 0.0)
    assert spend(state, 10.0, 3600.0) == 100


def test_a_long_healthy_time_does_not_pay_for_a_long_outage() -> None:
    state = State()
    for _ in range(100_000):
        state.deposit(0.2, 10.0, 0.0)
    assert spend(state, 10.0, 0.0) == 300


def test_time_that_runs_backwards_earns_nothing_and_costs_nothing() -> None:
    state = State()
    spend(state, 10.0, 100.0)
    assert spend(state, 10.0, 50.0) == 0
    assert spend(state, 10.0, 51.0) == 10


@given(st.integers(1, 400), st.floats(0, 1), st.floats(0, 50), st.floats(0, 30))
def test_in_an_outage_retries_stay_a_share_of_the_calls(calls: int, ratio: float, floor: float, lasts: float) -> None:
    state, retries = State(), 0
    for call in range(calls):
        now = lasts * call / calls
        state.deposit(ratio, floor, now)
        retries += sum(state.withdraw(floor, now) for _ in range(2))
    assert retries <= ratio * calls + floor * (lasts + 1) + 1.001


def test_threads_never_spend_more_than_there_is() -> None:
    state = State()
    with ThreadPoolExecutor(8) as pool:
        spent = sum(pool.map(lambda _: state.withdraw(100.0, 0.0), range(2000)))
    assert spent == 100


def test_a_place_is_trusted_for_as_long_as_it_said() -> None:
    state = State()
    assert not state.honours("POST https://api/v1/x", now=0.0)
    state.allow("POST https://api/v1/x", ttl=60.0, now=0.0)
    assert state.honours("POST https://api/v1/x", now=59.9)
    assert not state.honours("POST https://api/v1/x", now=60.0)
    assert not state.honours("POST https://api/v1/y", now=1.0)


def test_a_ttl_of_zero_takes_the_trust_back() -> None:
    state = State()
    state.allow("place", ttl=60.0, now=0.0)
    state.allow("place", ttl=0.0, now=1.0)
    assert not state.honours("place", now=1.0)


def test_what_was_given_back_is_remembered_for_two_minutes() -> None:
    state, error = State(), TimeoutError()
    state.remember(b"print", error, now=0.0)
    assert state.given_back(b"print", now=119.0) is error
    assert state.given_back(b"print", now=120.0) is None
    assert state.given_back(b"other", now=1.0) is None


@pytest.mark.parametrize("kind", ["places", "prints"])
def test_memory_is_bounded_and_keeps_the_youngest(kind: str) -> None:
    state, error = State(), TimeoutError()
    for number in range(5000):
        if kind == "places":
            state.allow(str(number), ttl=60.0, now=0.0)
        else:
            state.remember(str(number).encode(), error, now=0.0)
    known = [
        state.honours(str(n), now=1.0) if kind == "places" else state.given_back(str(n).encode(), now=1.0) is not None
        for n in range(5000)
    ]
    assert sum(known) == 4096
    assert all(known[-4096:])


def test_the_warning_is_given_once() -> None:
    state = State()
    assert [state.first_warning() for _ in range(3)] == [True, False, False]
