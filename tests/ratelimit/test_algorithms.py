"""The algorithms beside what defines them, on windows of a few microseconds, where every boundary is met.

A model keeps all that was ever taken and does its sums in fractions; the wait is looked for moment by moment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from importlib import import_module
from math import floor
from pkgutil import iter_modules

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flexmw.ratelimit import RateLimit, algorithms
from flexmw.ratelimit.algorithms import ALGORITHMS, Algorithm, RedisScript
from flexmw.ratelimit.algorithms.moving_window import Log
from flexmw.ratelimit.core import SECOND, Rate
from flexmw.ratelimit.rates import parse_rates
from tests.ratelimit.calls import OneCaller


@dataclass
class Model:
    """What a caller has taken, by moment. ``start`` is where the current window begins, if there is one."""

    limit: int
    window: int
    start: int | None = None
    taken: list[list[int]] = field(default_factory=list)

    def begin(self, now: int) -> None:
        """Roll the windows on to this moment."""

    def used(self, now: int) -> int:
        raise NotImplementedError

    def ends(self, now: int) -> int:
        """The time until the window ends that something was just taken from."""
        raise NotImplementedError

    def room(self, now: int) -> int:
        return self.limit - self.used(now)

    def wait(self, now: int, cost: int) -> int:
        return next(after for after in range(100 * self.window) if self.room(now + after) >= cost)

    def take(self, now: int, cost: int) -> None:
        self.begin(now)
        self.taken.append([now, cost])

    def give(self, now: int, cost: int, age: int) -> None:
        """Give back, as far as it was taken in the same window."""
        left = cost
        for each in reversed([each for each in self.taken if self.same(each[0], now - age, now)]):
            back = min(left, each[1])
            each[1] -= back
            left -= back

    def same(self, moment: int, taken_at: int, now: int) -> bool:
        raise NotImplementedError


class Fixed(Model):
    def begin(self, now: int) -> None:
        if self.start is None or now >= self.start + self.window:
            self.start = now

    def _lies(self, moment: int, now: int) -> bool:
        return self.start is not None and self.start <= moment and now < self.start + self.window

    def used(self, now: int) -> int:
        return sum(cost for moment, cost in self.taken if self._lies(moment, now))

    def ends(self, now: int) -> int:
        assert self.start is not None
        return self.start + self.window - now

    def same(self, moment: int, taken_at: int, now: int) -> bool:
        return self._lies(moment, now) and self._lies(taken_at, now)


class Sliding(Model):
    def _at(self, now: int) -> int:
        """Where the current window begins at a moment."""
        if self.start is None or now >= self.start + 2 * self.window:
            return now
        return self.start + self.window if now >= self.start + self.window else self.start

    def begin(self, now: int) -> None:
        self.start = self._at(now)

    def give(self, now: int, cost: int, age: int) -> None:
        self.begin(now)
        super().give(now, cost, age)

    def _between(self, start: int) -> int:
        return sum(cost for moment, cost in self.taken if start <= moment < start + self.window)

    def used(self, now: int) -> int:
        start = self._at(now)
        share = Fraction(start + self.window - now, self.window)
        return self._between(start) + floor(self._between(start - self.window) * share)

    def ends(self, now: int) -> int:
        return self._at(now) + self.window - now

    def same(self, moment: int, taken_at: int, now: int) -> bool:
        start = self._at(now)
        first = start if taken_at >= start else start - self.window
        return first <= moment < first + self.window and first <= taken_at


class Moving(Model):
    def used(self, now: int) -> int:
        return sum(cost for moment, cost in self.taken if moment >= now - self.window)

    def ends(self, now: int) -> int:
        return (
            min(moment for moment, cost in self.taken if cost and moment >= now - self.window) + self.window + 1 - now
        )

    def same(self, moment: int, taken_at: int, now: int) -> bool:
        return now - self.window <= moment <= taken_at


MODELS: dict[str, type[Model]] = {"fixed-window": Fixed, "sliding-window-counter": Sliding, "moving-window": Moving}
steps = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 1, 1, 2, 3, 6]),
        st.sampled_from(["hit", "hit", "take", "give", "give", "charge"]),
        st.integers(1, 4),
    ),
    min_size=1,
    max_size=25,
)


@pytest.mark.parametrize("name", sorted(MODELS))
@settings(max_examples=400)
@given(limit=st.integers(1, 5), window=st.integers(1, 8), steps=steps, ages=st.lists(st.integers(0, 9), min_size=1))
def test_an_algorithm_does_what_its_definition_says(
    name: str, limit: int, window: int, steps: list[tuple[int, str, int]], ages: list[int]
) -> None:
    strategy, rate = ALGORITHMS[name], Rate(limit, window, "test", "test")
    model, state, now = MODELS[name](limit, window), None, 0
    for number, (gap, what, cost) in enumerate(steps):
        now += gap
        cost = min(cost, limit)
        wait = model.wait(now, cost)
        assert strategy.wait(state, now, rate, cost) == wait
        assert strategy.remaining(state, now, rate) == max(0, model.room(now))
        if what == "hit":
            caller = OneCaller(strategy, state)
            said, remaining, reset = caller.hit(now, rate, cost)
            state = caller.state
            if not wait:
                model.take(now, cost)
                assert reset == model.ends(now)
            assert (said, remaining) == (wait, max(0, model.room(now)))
            assert reset == wait or not wait
        elif what == "take" and not wait:
            state = strategy.take(state, now, rate, cost)
            model.take(now, cost)
            assert strategy.reset(state, now, rate) == model.ends(now)
        elif what == "charge":
            state = strategy.refund(state, now, rate, -cost)
            model.take(now, cost)
        elif what == "give":
            age = ages[number % len(ages)]
            state = strategy.refund(state, now, rate, cost, age)
            model.give(now, cost, age)


@given(
    limit=st.integers(1, 6),
    interval=st.integers(1, 5),
    steps=steps,
    ages=st.lists(st.integers(0, 12), min_size=1),
)
@example(limit=1, interval=1, steps=[(0, "take", 1), (0, "hit", 1)], ages=[0])
def test_gcra_does_what_its_definition_says(
    limit: int, interval: int, steps: list[tuple[int, str, int]], ages: list[int]
) -> None:
    """By the virtual scheduling algorithm of ITU-T I.371: ``due`` is the theoretical arrival time."""
    strategy, window = ALGORITHMS["gcra"], limit * interval
    rate = Rate(limit, window, "test", "test")
    due, state, now = 0, None, 0
    for number, (gap, what, cost) in enumerate(steps):
        now += gap
        cost = min(cost, limit)
        wait = max(0, max(due, now) + cost * interval - window - now)
        assert strategy.wait(state, now, rate, cost) == wait
        assert strategy.remaining(state, now, rate) == max(0, (window - max(0, due - now)) // interval)
        assert strategy.reset(state, now, rate) == max(0, due - now)
        if what == "hit":
            caller = OneCaller(strategy, state)
            said, remaining, reset = caller.hit(now, rate, cost)
            state = caller.state
            if not wait:
                due = max(due, now) + cost * interval
            assert said == wait
            assert remaining == max(0, (window - max(0, due - now)) // interval)
            assert reset == (wait or due - now)
        elif what == "take" and not wait:
            state = strategy.take(state, now, rate, cost)
            due = max(due, now) + cost * interval
        elif what == "charge":
            state = strategy.refund(state, now, rate, -cost)
            due = max(due, now) + cost * interval
        elif what == "give":
            age = ages[number % len(ages)]
            state = strategy.refund(state, now, rate, cost, age)
            due = max(due, now) - max(0, cost * interval - age)


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_an_unseen_caller_has_the_whole_limit(name: str) -> None:
    strategy, rate = ALGORITHMS[name], Rate(3, 60 * SECOND, "test", "test")
    assert strategy.remaining(None, 5, rate) == 3
    assert strategy.reset(None, 5, rate) == (0 if name == "gcra" else 60 * SECOND)
    assert strategy.wait(None, 5, rate, 3) == 0


@pytest.mark.parametrize(
    ("limit", "window", "taken"), [(3, SECOND, 3), (7, SECOND, 7), (11, 60 * SECOND, 11), (29, 3 * SECOND, 29)]
)
def test_fractions_of_an_interval_add_up_to_the_whole_limit(limit: int, window: int, taken: int) -> None:
    strategy, rate = ALGORITHMS["gcra"], Rate(limit, window, "test", "test")
    caller = OneCaller(strategy)
    for left in range(taken - 1, -1, -1):
        wait, remaining, _ = caller.hit(17, rate, 1)
        assert (wait, remaining) == (0, left)
    interval = Fraction(window, limit)
    wait = strategy.wait(caller.state, 17, rate, 1)
    assert interval - 1 <= wait <= interval + 1
    assert strategy.wait(caller.state, 17 + wait, rate, 1) == 0


def test_a_log_is_cut_when_more_than_half_of_it_has_left_and_not_before() -> None:
    log = Log()
    for moment in range(130):
        log.add(moment, 1)
    assert (log.used(164, 100), len(log._times)) == (66, 130)
    assert (log.used(165, 100), len(log._times)) == (65, 130)
    assert (log.used(166, 100), len(log._times)) == (64, 64)
    assert log.oldest(0) == 66
    short = Log()
    for moment in range(40):
        short.add(moment, 1)
    short.add(150, 1)
    assert (short.used(160, 100), len(short._times)) == (1, 41)


def test_a_request_that_costs_nothing_is_no_entry_of_a_log() -> None:
    log = Log()
    log.add(5, 0)
    assert (log.used(5, 100), log._times) == (0, [])


@pytest.mark.parametrize("strategy", ALGORITHMS)
def test_a_cost_of_any_size_is_taken_given_back_and_waited_for(strategy: str) -> None:
    algorithm, much = ALGORITHMS[strategy], 10**12
    rate, caller = Rate(10 * much, SECOND, "test", "test"), OneCaller(ALGORITHMS[strategy])
    wait, remaining, _ = caller.hit(0, rate, 9 * much)
    assert (wait, remaining) == (0, much)
    assert caller.hit(1, rate, 2 * much)[0] > 0
    caller = OneCaller(algorithm, algorithm.refund(caller.state, 2, rate, 8 * much))
    assert caller.hit(2, rate, 2 * much)[0] == 0
    caller = OneCaller(algorithm, algorithm.refund(caller.state, 3, rate, -100 * much))
    assert caller.hit(3, rate, 1)[0] > 0


def test_a_log_forgets_the_newest_that_are_not_later_and_nothing_that_has_left() -> None:
    log = Log()
    for moment in (1, 2, 3, 4):
        log.add(moment, 2)
    assert log.used(12, 10) == 6
    log.drop(3, 3)
    assert [log.oldest(number) for number in range(log.used(12, 10))] == [2, 4, 4]
    log.drop(9, 3)
    assert [log.oldest(number) for number in range(log.used(12, 10))] == [4, 4]


def test_every_module_of_the_package_is_registered_under_the_name_of_its_algorithm() -> None:
    modules = {module.name for module in iter_modules(algorithms.__path__)} - {"base", "windows"}
    declared = {
        value.name: value
        for module in modules
        for value in vars(import_module(f"{algorithms.__name__}.{module}")).values()
        if isinstance(value, Algorithm)
    }
    assert declared == ALGORITHMS
    assert len(declared) == len(modules)


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_every_algorithm_is_complete_and_has_keys_of_its_own_on_a_server(name: str) -> None:
    algorithm, (rate,) = ALGORITHMS[name], parse_rates("5/minute")
    assert all(getattr(algorithm, field) for field in Algorithm._fields if field not in Algorithm._field_defaults)
    assert all(getattr(algorithm.redis, field) for field in RedisScript._fields)
    keys = algorithm.redis.keys(rate.key("digest", name))
    assert keys
    assert all("{digest}" in key and name in key for key in keys)
    assert RateLimit("5/minute", strategy=name).strategy == name
