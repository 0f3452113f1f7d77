from __future__ import annotations

from copy import deepcopy
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.ratelimit.algorithms.moving_window import Log
from flexmw.ratelimit.algorithms.windows import admit, result_of
from flexmw.ratelimit.core import SECOND, Rate
from tests.ratelimit.calls import OneCaller

NAMES = sorted(ALGORITHMS)
WINDOWED = ["fixed-window", "moving-window", "sliding-window-counter"]
windows = st.integers(1, 5).map(lambda seconds: seconds * SECOND)
limits = st.integers(1, 30)
gaps = st.lists(st.one_of(st.just(0), st.integers(1, 3 * SECOND)), min_size=1, max_size=120)


def rate(limit: int, window: int) -> Rate:
    return Rate(limit, window, "test", "test")


@given(name=st.sampled_from(NAMES), limit=limits, window=windows, gaps=gaps, cost=st.integers(1, 3))
def test_the_admitted_count_never_passes_the_bound_of_the_algorithm(
    name: str, limit: int, window: int, gaps: list[int], cost: int
) -> None:
    strategy, only, state, now = ALGORITHMS[name], rate(limit, window), None, 0
    admitted: list[int] = []
    for gap in gaps:
        now += gap
        if not strategy.wait(state, now, only, cost):
            state = strategy.take(state, now, only, cost)
            admitted += [now] * cost
    # Strict: no window of time holds more than the limit. The cheap ones: less than twice as much, wherever it lies.
    bound = limit if name == "moving-window" else 2 * limit
    for index, start in enumerate(admitted):
        inside = sum(1 for moment in admitted[index:] if moment - start < window)
        assert inside <= bound
    if name == "gcra":
        for index, start in enumerate(admitted):
            for number, moment in enumerate(admitted[index:], 1):
                assert number <= limit + (moment - start) * limit / window + 1e-6 * number + 1


@given(
    name=st.sampled_from(NAMES), limit=limits, window=windows, gaps=gaps, costs=st.lists(st.integers(1, 5), min_size=1)
)
def test_whoever_obeys_the_wait_is_admitted_and_nobody_is_a_microsecond_earlier(
    name: str, limit: int, window: int, gaps: list[int], costs: list[int]
) -> None:
    strategy, only, state, now = ALGORITHMS[name], rate(limit, window), None, 0
    for index, gap in enumerate(gaps):
        now += gap
        cost = min(limit, costs[index % len(costs)])
        wait = strategy.wait(state, now, only, cost)
        if wait:
            slack = 2 if name == "gcra" else 1
            assert wait <= slack or strategy.wait(deepcopy(state), now + wait - slack, only, cost) > 0
            assert strategy.wait(deepcopy(state), now + wait, only, cost) == 0
        else:
            state = strategy.take(state, now, only, cost)


@given(name=st.sampled_from(NAMES), limit=limits, window=windows, burst=st.integers(1, 60))
def test_a_burst_is_admitted_to_exactly_the_limit_with_every_remaining_number_once(
    name: str, limit: int, window: int, burst: int
) -> None:
    strategy, only, state, seen = ALGORITHMS[name], rate(limit, window), None, []
    for _ in range(burst):
        if not strategy.wait(state, 7, only, 1):
            state = strategy.take(state, 7, only, 1)
            seen.append(strategy.remaining(state, 7, only))
    assert seen == list(range(limit - 1, -1, -1))[:burst]


@given(name=st.sampled_from(WINDOWED), limit=limits, window=windows, gaps=gaps)
def test_remaining_never_grows_between_two_admissions_inside_one_window(
    name: str, limit: int, window: int, gaps: list[int]
) -> None:
    strategy, only, now = ALGORITHMS[name], rate(limit, window), 0
    state, seen = None, []
    for gap in gaps:
        now += gap % max(1, window // 200)
        if now >= window:
            break
        if not strategy.wait(state, now, only, 1):
            state = strategy.take(state, now, only, 1)
            seen.append(strategy.remaining(state, now, only))
    assert all(later == earlier - 1 for earlier, later in pairwise(seen))


@given(name=st.sampled_from(NAMES), limit=limits, window=windows, gaps=gaps)
def test_reset_is_ahead_after_every_admission_and_never_further_than_two_windows(
    name: str, limit: int, window: int, gaps: list[int]
) -> None:
    strategy, only, state, now = ALGORITHMS[name], rate(limit, window), None, 0
    for gap in gaps:
        now += gap
        if not strategy.wait(state, now, only, 1):
            state = strategy.take(state, now, only, 1)
            assert 0 < strategy.reset(state, now, only) <= window + 1


@given(name=st.sampled_from(NAMES), limit=st.integers(2, 30), window=windows, cost=st.integers(1, 10))
def test_what_is_given_back_can_be_taken_again(name: str, limit: int, window: int, cost: int) -> None:
    strategy, only = ALGORITHMS[name], rate(limit, window)
    cost = min(cost, limit)
    state = strategy.take(None, 5, only, limit)
    assert strategy.wait(state, 5, only, cost) > 0
    state = strategy.refund(state, 5, only, cost)
    assert strategy.remaining(state, 5, only) == cost
    assert strategy.wait(state, 5, only, cost) == 0


@pytest.mark.parametrize("name", NAMES)
def test_more_can_be_charged_than_is_left_and_is_then_owed(name: str) -> None:
    strategy, only = ALGORITHMS[name], rate(10, 60 * SECOND)
    state = strategy.refund(strategy.take(None, 0, only, 8), 0, only, -7)
    assert strategy.remaining(state, 0, only) == 0
    assert strategy.wait(state, 0, only, 1) > 0


@pytest.mark.parametrize("name", NAMES)
def test_giving_back_to_a_caller_who_took_nothing_grants_no_more_than_the_limit(name: str) -> None:
    strategy, only = ALGORITHMS[name], rate(3, 60 * SECOND)
    state = strategy.refund(None, 0, only, 5)
    assert strategy.remaining(state, 0, only) == 3


@pytest.mark.parametrize("name", NAMES)
def test_a_cost_above_the_limit_waits_although_nothing_was_taken(name: str) -> None:
    strategy, only = ALGORITHMS[name], rate(3, 60 * SECOND)
    assert strategy.wait(None, 0, only, 4) > 0
    assert strategy.wait(strategy.take(None, 0, only, 1), 0, only, 4) > 0
    assert strategy.remaining(None, 0, only) == 3


@pytest.mark.parametrize("name", NAMES)
def test_after_two_idle_windows_a_caller_is_as_new(name: str) -> None:
    strategy, only = ALGORITHMS[name], rate(3, 60 * SECOND)
    state = strategy.take(None, 0, only, 3)
    later = 120 * SECOND + 1
    assert strategy.remaining(state, later, only) == 3
    assert strategy.wait(state, later, only, 3) == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_refused_request_takes_nothing_from_any_window(name: str) -> None:
    strategy = ALGORITHMS[name]
    minute, day = rate(5, 60 * SECOND), rate(6, 86_400 * SECOND)
    states: list[object] = [None, None]
    for _ in range(5):
        admitted, states = admit(strategy, (minute, day), states, 0, (1, 1))  # type: ignore[assignment]
        assert admitted
    for _ in range(3):
        admitted, states = admit(strategy, (minute, day), states, 0, (1, 1))  # type: ignore[assignment]
        assert not admitted
    assert strategy.remaining(states[1], 0, day) == 1
    said = result_of(strategy, (minute, day), states, 0, (1, 1), admitted=False)
    assert (said.rate, said.remaining, said.reset_us) == (minute, 0, said.wait_us)


@given(name=st.sampled_from(NAMES), limit=limits, window=windows, gaps=gaps, cost=st.integers(1, 4))
def test_hit_equals_its_four_parts(name: str, limit: int, window: int, gaps: list[int], cost: int) -> None:
    strategy, only, caller, now = ALGORITHMS[name], rate(limit, window), OneCaller(ALGORITHMS[name]), 0
    for gap in gaps:
        now += gap
        before = deepcopy(caller.state)
        wait = strategy.wait(before, now, only, cost)
        result = caller.hit(now, only, cost)
        if wait:
            assert result == (wait, strategy.remaining(before, now, only), wait)
            assert strategy.remaining(caller.state, now, only) == strategy.remaining(before, now, only)
        else:
            taken = strategy.take(before, now, only, cost)
            assert result == (0, strategy.remaining(taken, now, only), strategy.reset(taken, now, only))
            if strategy.in_words:
                assert caller.state[: len(taken)] == taken


def test_looking_takes_nothing() -> None:
    strategy, only = ALGORITHMS["fixed-window"], rate(5, SECOND)
    assert admit(strategy, (only,), [None], 0, (1,), take=False) == (True, [None])


def test_of_several_windows_the_tightest_is_reported_and_of_equals_the_longest() -> None:
    strategy = ALGORITHMS["fixed-window"]
    minute, day = rate(10, 60 * SECOND), rate(100, 86_400 * SECOND)
    said = result_of(strategy, (minute, day), [(SECOND, 5), (SECOND, 80)], 0, (1, 1), admitted=True)
    assert (said.rate, said.remaining) == (day, 20)
    said = result_of(strategy, (minute, day), [(SECOND, 5), (2 * SECOND, 50)], 0, (1, 1), admitted=True)
    assert said.rate == day
    denied = result_of(strategy, (minute, day), [(SECOND, 10), (2 * SECOND, 100)], 0, (1, 1), admitted=False)
    assert (denied.rate, denied.wait_us) == (day, 2 * SECOND)


def test_a_log_forgets_what_has_left_the_window_and_keeps_its_numbers() -> None:
    log = Log()
    for moment in range(1000):
        log.add(moment, 1)
    assert log.used(1000, 100) == 100
    assert log.oldest(0) == 900
    assert len(log._times) == 100
    log.drop(30)
    assert log.used(1000, 100) == 70
    log.drop(1000)
    assert log.used(1000, 100) == 0
