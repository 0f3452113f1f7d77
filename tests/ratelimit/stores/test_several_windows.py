"""Several windows on memory are decided in one pass as they are one after the other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmw.kit.clock import SYSTEM, SystemClock
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.ratelimit.core import SECOND, Check
from flexmw.ratelimit.rates import parse_rates
from flexmw.ratelimit.stores.memory import MemoryStore


class _Clock(SystemClock):
    """A clock that stands still."""

    now_us = 0

    def monotonic(self) -> float:
        return self.now_us / SECOND


REQUESTS = st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 40 * SECOND)), max_size=30)


@pytest.mark.parametrize("strategy", ALGORITHMS)
@given(requests=REQUESTS, cost=st.integers(0, 3))
def test_several_windows_are_decided_alike_in_one_pass_and_by_a_check(
    strategy: str, requests: list[tuple[str, int]], cost: int
) -> None:
    rates = parse_rates(["5/minute", "4/30 second", "9/hour"])
    clock = _Clock()
    one, other = (MemoryStore(ALGORITHMS[strategy], clock) for _ in range(2))
    for digest, passed_us in requests:
        clock.now_us += passed_us
        result = one.hit(digest, rates, cost, int(clock.monotonic() * SECOND))
        assert result == other.decide(Check(digest, rates, (cost,) * len(rates)))


@pytest.mark.parametrize("strategy", ALGORITHMS)
def test_a_refusal_of_the_last_window_takes_from_no_window(strategy: str) -> None:
    rates = parse_rates(["9/minute", "8/hour", "1/day"])
    store = MemoryStore(ALGORITHMS[strategy], SYSTEM)
    assert [store.hit("a", rates, 1, 0).wait_us > 0 for _ in range(5)] == [False, True, True, True, True]
    assert store.hit("a", rates[:1], 1, 0).remaining == 7


@pytest.mark.parametrize("strategy", ALGORITHMS)
def test_a_state_of_the_generation_before_counts_in_every_window(strategy: str) -> None:
    rates = parse_rates(["9/minute", "2/hour"])
    store = MemoryStore(ALGORITHMS[strategy], SYSTEM)
    waits = [store.hit("a", rates, 1, minute * 60 * SECOND).wait_us > 0 for minute in (0, 3, 6, 9)]
    assert waits == [False, False, True, True]
