"""The counter of one rate on memory decides as the store itself does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmw.kit.clock import SYSTEM
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.ratelimit.core import SECOND
from flexmw.ratelimit.rates import parse_rates
from flexmw.ratelimit.stores.memory import MemoryStore

REQUESTS = st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 40 * SECOND)), max_size=30)


@pytest.mark.parametrize("strategy", ALGORITHMS)
@given(requests=REQUESTS, cost=st.integers(0, 3))
def test_a_counter_and_its_store_decide_alike(strategy: str, requests: list[tuple[str, int]], cost: int) -> None:
    rates = parse_rates("5/minute")
    one, other = (MemoryStore(ALGORITHMS[strategy], SYSTEM) for _ in range(2))
    count, now_us = one.counter(rates[0], cost), 0
    for digest, passed_us in requests:
        now_us += passed_us
        result = other.hit(digest, rates, cost, now_us)
        assert count(digest, now_us) == (result.wait_us, result.remaining, result.reset_us)


def test_a_counter_and_its_store_count_in_one_table() -> None:
    rates = parse_rates("2/minute")
    store = MemoryStore(ALGORITHMS["fixed-window"], SYSTEM)
    count = store.counter(rates[0], 1)
    assert [count("a", 0)[1], store.hit("a", rates, 1, 0).remaining] == [1, 0]
    assert count("a", 0)[0] > 0
