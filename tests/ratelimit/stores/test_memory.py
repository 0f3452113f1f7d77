from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from flexmw.kit.counters import MAX_WORD
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.ratelimit.core import SECOND, Check, Rate
from flexmw.ratelimit.rates import parse_rates
from flexmw.ratelimit.stores.memory import MemoryStore
from flexmw.testing import FakeClock
from tests.ratelimit.calls import check_of

NAMES = sorted(ALGORITHMS)


@pytest.mark.parametrize("name", NAMES)
def test_threads_together_are_admitted_exactly_the_limit(name: str) -> None:
    store, rates = MemoryStore(ALGORITHMS[name], FakeClock()), parse_rates("50/minute")
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda _: store.decide(check_of("caller", rates, 1)), range(1000)))
    admitted = [each for each in said if not each.wait_us]
    assert sorted(each.remaining for each in admitted) == list(range(50))


@pytest.mark.parametrize("name", NAMES)
def test_keys_that_nobody_uses_any_more_are_forgotten_without_a_scan(name: str) -> None:
    clock = FakeClock()
    store, rates = MemoryStore(ALGORITHMS[name], clock), parse_rates("5/second")
    for number in range(5_000):
        store.decide(check_of(f"caller {number}", rates, 1))
    table = store.table(rates[0])
    assert table.count() == 5_000
    for _ in range(4_000):
        clock.advance(0.01)
        store.decide(check_of("the one who stays", rates, 1))
    assert table.count() < 10


@pytest.mark.parametrize("name", NAMES)
def test_a_caller_is_remembered_for_as_long_as_their_usage_matters(name: str) -> None:
    clock = FakeClock()
    store, rates = MemoryStore(ALGORITHMS[name], clock), parse_rates("10/minute")
    for _ in range(10):
        store.decide(check_of("caller", rates, 1))
    for number in range(2_000):
        clock.advance(59 / 2_000)
        store.decide(check_of(f"somebody else {number}", rates, 1))
    said = store.decide(check_of("caller", rates, 10))
    assert said.wait_us > 0


def test_several_windows_are_taken_together_or_not_at_all() -> None:
    store, rates = MemoryStore(ALGORITHMS["fixed-window"], FakeClock()), parse_rates(["3/minute", "5/day"])
    assert [store.decide(check_of("caller", rates, 1)).wait_us > 0 for _ in range(4)] == [False, False, False, True]
    assert store.decide(check_of("caller", parse_rates("5/day"), 1, take=False)).remaining == 2


def test_looking_takes_nothing_and_a_refund_gives_back_its_cost() -> None:
    store, rates = MemoryStore(ALGORITHMS["gcra"], FakeClock()), parse_rates("5/minute")
    for _ in range(3):
        assert store.decide(check_of("caller", rates, 5, take=False)).wait_us == 0
    store.decide(check_of("caller", rates, 5))
    store.refund(check_of("caller", rates, 2))
    assert store.decide(check_of("caller", rates, 1, take=False)).remaining == 2


@pytest.mark.parametrize("name", ["fixed-window", "sliding-window-counter"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_limit_larger_than_a_word_is_counted_exactly(name: str, number: int) -> None:
    rates = parse_rates([f"{10**40}/minute", f"{10**41}/hour"])[:number]
    store = MemoryStore(ALGORITHMS[name], FakeClock())
    results = [store.decide(Check("caller", rates, (4 * 10**39,) * number)) for _ in range(3)]
    assert [(result.wait_us > 0, result.remaining) for result in results] == [
        (False, 6 * 10**39),
        (False, 2 * 10**39),
        (True, 2 * 10**39),
    ]


@pytest.mark.parametrize("name", ["fixed-window", "sliding-window-counter"])
def test_a_credit_that_becomes_larger_than_a_word_is_counted_in_one_place(name: str) -> None:
    """The credit of a caller is a limit that changes, in one table."""
    small = tuple(Rate(10, seconds * SECOND, "credit", f"credit/{seconds}") for seconds in (60, 3600))
    large = tuple(rate._replace(limit=10**30) for rate in small)
    store = MemoryStore(ALGORITHMS[name], FakeClock())
    store.hit("caller", small, 1, 0)
    for left in (10**30 - 5, 10**30 - 10):
        assert store.hit("caller", large, 5, 0).remaining == left
    store.refund(Check("caller", large, (10, 10)))
    assert store.hit("caller", large, 1, 0).remaining == 10**30 - 1


def test_a_caller_who_is_charged_more_than_a_word_holds_stays_refused() -> None:
    store, rates = MemoryStore(ALGORITHMS["fixed-window"], FakeClock()), parse_rates(f"{MAX_WORD}/minute")
    store.refund(Check("caller", rates, (-(10**40),)))
    assert store.decide(Check("caller", rates, (1,))).wait_us > 0


def test_a_budget_larger_than_a_word_is_counted_exactly() -> None:
    budget = Rate(10**40, 10**15, "budget", "budget", ends_at_us=10**16)
    store = MemoryStore(ALGORITHMS["fixed-window"], FakeClock())
    for left in (10**40 - 10**30, 10**40 - 2 * 10**30):
        assert store.decide(Check("caller", (budget,), (10**30,))).remaining == left
