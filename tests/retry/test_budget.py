"""The retry budget."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from flexmw.retry.budget import Budget


def spend(budget: Budget, floor: float, now: float) -> int:
    """How many retries the budget gives out at this moment."""
    count = 0
    while budget.withdraw(floor, now):
        count += 1
    return count


def test_a_budget_begins_with_one_second_of_its_floor() -> None:
    assert spend(Budget(), 10.0, 0.0) == 10


def test_a_budget_without_a_floor_begins_with_one_retry() -> None:
    assert spend(Budget(), 0.0, 0.0) == 1


def test_calls_earn_their_share_and_time_earns_the_floor() -> None:
    budget = Budget()
    spend(budget, 10.0, 0.0)
    for _ in range(50):
        budget.deposit(0.2, 10.0, lambda: 0.0)
    assert spend(budget, 10.0, 0.0) == 10
    assert spend(budget, 10.0, 2.05) == 20


def test_an_idle_budget_saves_up_no_more_than_ten_seconds() -> None:
    budget = Budget()
    spend(budget, 10.0, 0.0)
    assert spend(budget, 10.0, 3600.0) == 100


def test_a_long_healthy_time_does_not_pay_for_a_long_outage() -> None:
    budget = Budget()
    for _ in range(100_000):
        budget.deposit(0.2, 10.0, lambda: 0.0)
    assert spend(budget, 10.0, 0.0) == 300


def test_time_that_runs_backwards_earns_nothing_and_costs_nothing() -> None:
    budget = Budget()
    spend(budget, 10.0, 100.0)
    assert spend(budget, 10.0, 50.0) == 0
    assert spend(budget, 10.0, 51.0) == 10


@given(st.integers(1, 400), st.floats(0, 1), st.floats(0, 50), st.floats(0, 30))
def test_in_an_outage_retries_stay_a_share_of_the_calls(calls: int, ratio: float, floor: float, lasts: float) -> None:
    budget, retries = Budget(), 0
    for call in range(calls):
        now = lasts * call / calls
        budget.deposit(ratio, floor, lambda: now)  # noqa: B023 - called before the next turn
        retries += sum(budget.withdraw(floor, now) for _ in range(2))
    assert retries <= ratio * calls + floor * (lasts + 1) + 1.001


def test_threads_never_spend_more_than_there_is() -> None:
    budget = Budget()
    with ThreadPoolExecutor(8) as pool:
        spent = sum(pool.map(lambda _: budget.withdraw(100.0, 0.0), range(2000)))
    assert spent == 100
