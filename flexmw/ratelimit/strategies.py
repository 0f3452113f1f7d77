"""The four algorithms as pure functions over one caller's state, a limit and a moment.

Every time in here is an int of microseconds; a state means nothing to anyone but its own algorithm. ``None`` is the
state of a caller who was never seen.

>>> from flexmw.ratelimit.values import rates_of
>>> rate = rates_of("2/minute")[0]
>>> strategy, state, now = STRATEGIES["sliding-window-counter"], None, 0
>>> for _ in range(3):
...     wait = strategy.wait(state, now, rate, 1)
...     if not wait:
...         state = strategy.take(state, now, rate, 1)
...     print(wait, strategy.remaining(state, now, rate))
0 1
0 0
60000001 0
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from math import ceil, inf
from typing import Any, Final, NamedTuple, TypeAlias

from flexmw.ratelimit.values import Rate

__all__ = ["STRATEGIES", "Log", "State", "Strategy"]

State: TypeAlias = Any


class Strategy(NamedTuple):
    """One algorithm. ``wait`` is the time after which ``cost`` would be admitted (0: now), ``take`` the state after it
    was, ``give`` the state after ``cost`` was given back (or, negative, was charged after the fact), ``age`` after it
    was taken: what left with its window does not come back from another one; ``reset`` the time until the window
    ends, ``lives`` how long after its last use a state still matters, in windows. ``hit`` is all of it
    for one request: wait, state after it, remaining and reset."""

    name: str
    wait: Callable[[State, int, Rate, int], int]
    take: Callable[[State, int, Rate, int], State]
    give: Callable[..., State]
    remaining: Callable[[State, int, Rate], int]
    reset: Callable[[State, int, Rate], int]
    lives: int
    hit: Callable[[State, int, Rate, int], tuple[int, State, int, int]]


def _fixed_hit(state: State, now: int, rate: Rate, cost: int) -> tuple[int, State, int, int]:
    end, count = state if state and now < state[0] else (now + rate.window, 0)
    room = rate.limit - count - cost
    if room >= 0:
        return 0, (end, count + cost), room, end - now
    return end - now, state, max(0, rate.limit - count), end - now


def _fixed_wait(state: State, now: int, rate: Rate, cost: int) -> int:
    end, count = state if state and now < state[0] else (now + rate.window, 0)
    return 0 if count + cost <= rate.limit else end - now


def _fixed_take(state: State, now: int, rate: Rate, cost: int) -> State:
    return (state[0], state[1] + cost) if state and now < state[0] else (now + rate.window, cost)


def _fixed_give(state: State, now: int, rate: Rate, cost: int, age: int = 0) -> State:
    if state and now < state[0]:
        if cost > 0 and age > now - state[0] + rate.window:
            return state
        return state[0], max(0, state[1] - cost)
    return (now + rate.window, -cost) if cost < 0 else None


def _fixed_remaining(state: State, now: int, rate: Rate) -> int:
    return max(0, rate.limit - state[1]) if state and now < state[0] else rate.limit


def _fixed_reset(state: State, now: int, rate: Rate) -> int:
    return state[0] - now if state and now < state[0] else rate.window


def _shift(state: State, now: int, window: int) -> tuple[int, int, int]:
    """(end of the current window, its count, the count of the one before), rolled on to this moment."""
    if state:
        end, current, _ = state
        if now < end:
            return state  # type: ignore[no-any-return]
        if now < end + window:
            return end + window, 0, current
    return now + window, 0, 0


def _sliding_hit(state: State, now: int, rate: Rate, cost: int) -> tuple[int, State, int, int]:
    window = rate.window
    end, current, previous = state if state and now < state[0] else _shift(state, now, window)
    room = rate.limit - current - (previous * (end - now) // window if previous else 0)
    if room >= cost:
        return 0, (end, current + cost, previous), room - cost, end - now
    wait = _sliding_wait(state, now, rate, cost)
    return wait, state, max(0, room), wait


def _sliding_wait(state: State, now: int, rate: Rate, cost: int) -> int:
    window = rate.window
    end, current, previous = _shift(state, now, window)
    left = end - now
    room = rate.limit - cost - current
    if previous * left // window <= room:
        return 0
    if room >= 0:
        # The previous window's part shrinks as time passes; this is the last moment at which it is one too many.
        return left - ((room + 1) * window - 1) // previous
    return left + window - max(0, (rate.limit - cost + 1) * window - 1) // max(1, current)


def _sliding_take(state: State, now: int, rate: Rate, cost: int) -> State:
    end, current, previous = _shift(state, now, rate.window)
    return end, current + cost, previous


def _sliding_give(state: State, now: int, rate: Rate, cost: int, age: int = 0) -> State:
    end, current, previous = _shift(state, now, rate.window)
    over = age - (now - end + rate.window)
    if cost > 0 and over > 0:
        return end, current, max(0, previous - cost) if over <= rate.window else previous
    return end, max(0, current - cost), previous


def _sliding_remaining(state: State, now: int, rate: Rate) -> int:
    end, current, previous = _shift(state, now, rate.window)
    return max(0, rate.limit - current - previous * (end - now) // rate.window)


def _sliding_reset(state: State, now: int, rate: Rate) -> int:
    return _shift(state, now, rate.window)[0] - now


class Log:
    """The moments of one caller's admitted requests, oldest first. What has left the window is cut off lazily."""

    __slots__ = ("_first", "_times")

    def __init__(self) -> None:
        self._times: list[int] = []
        self._first = 0

    def used(self, now: int, window: int) -> int:
        """How many are still inside the window."""
        times = self._times
        self._first = bisect_left(times, now - window, self._first)
        if self._first > 64 and self._first * 2 > len(times):
            del times[: self._first]
            self._first = 0
        return len(times) - self._first

    def oldest(self, number: int) -> int:
        """The moment of the ``number``-th oldest one still inside, from 0."""
        return self._times[self._first + number]

    def add(self, now: int, cost: int) -> None:
        self._times.extend([now] * cost)

    def drop(self, cost: int, last: float = inf) -> None:
        """Forget the newest ones that are not later than ``last``."""
        end = bisect_right(self._times, last)
        del self._times[max(self._first, end - cost) : end]


def _moving_wait(state: State, now: int, rate: Rate, cost: int) -> int:
    used = state.used(now, rate.window) if state else 0
    over = used + cost - rate.limit
    if over <= 0:
        return 0
    if not used:
        return rate.window
    return state.oldest(min(over, used) - 1) + rate.window - now + 1  # type: ignore[no-any-return]


def _moving_take(state: State, now: int, rate: Rate, cost: int) -> State:
    log = state or Log()
    log.add(now, cost)
    return log


def _moving_give(state: State, now: int, rate: Rate, cost: int, age: int = 0) -> State:
    if cost < 0:
        return _moving_take(state, now, rate, -cost)
    if state:
        state.drop(cost, now - age)
    return state


def _moving_remaining(state: State, now: int, rate: Rate) -> int:
    return max(0, rate.limit - state.used(now, rate.window)) if state else rate.limit


def _moving_reset(state: State, now: int, rate: Rate) -> int:
    return state.oldest(0) + rate.window - now + 1 if state and state.used(now, rate.window) else rate.window


def _moving_hit(state: State, now: int, rate: Rate, cost: int) -> tuple[int, State, int, int]:
    if wait := _moving_wait(state, now, rate, cost):
        return wait, state, _moving_remaining(state, now, rate), wait
    state = _moving_take(state, now, rate, cost)
    return 0, state, _moving_remaining(state, now, rate), _moving_reset(state, now, rate)


def _gcra_hit(state: State, now: int, rate: Rate, cost: int) -> tuple[int, State, int, int]:
    if wait := _gcra_wait(state, now, rate, cost):
        return wait, state, _gcra_remaining(state, now, rate), wait
    state = _gcra_take(state, now, rate, cost)
    return 0, state, _gcra_remaining(state, now, rate), ceil(state - now)


def _gcra_wait(state: State, now: int, rate: Rate, cost: int) -> int:
    over = max(0.0, (state or 0.0) - now) + cost * rate.window / rate.limit - rate.window
    return 0 if over <= _ROUNDING else ceil(over)


def _gcra_take(state: State, now: int, rate: Rate, cost: int) -> State:
    return max(state or 0.0, float(now)) + cost * rate.window / rate.limit


def _gcra_give(state: State, now: int, rate: Rate, cost: int, age: int = 0) -> State:
    taken = cost * rate.window / rate.limit
    # What was taken has drained since, as far as time went by.
    return max(state or 0.0, float(now)) - (taken if cost < 0 else max(0.0, taken - age))


def _gcra_remaining(state: State, now: int, rate: Rate) -> int:
    room = rate.window - max(0.0, (state or 0.0) - now)
    return max(0, int(room * rate.limit / rate.window + 1e-6))


def _gcra_reset(state: State, now: int, rate: Rate) -> int:
    return ceil(max(0.0, (state or 0.0) - now))


_ROUNDING: Final = 0.5
"""Microseconds that adding up fractions may be wrong by; the smallest interval that is told apart is one."""

STRATEGIES: Final[dict[str, Strategy]] = {
    "sliding-window-counter": Strategy(
        "sliding-window-counter",
        wait=_sliding_wait,
        take=_sliding_take,
        give=_sliding_give,
        remaining=_sliding_remaining,
        reset=_sliding_reset,
        lives=2,
        hit=_sliding_hit,
    ),
    "fixed-window": Strategy(
        "fixed-window",
        wait=_fixed_wait,
        take=_fixed_take,
        give=_fixed_give,
        remaining=_fixed_remaining,
        reset=_fixed_reset,
        lives=1,
        hit=_fixed_hit,
    ),
    "moving-window": Strategy(
        "moving-window",
        wait=_moving_wait,
        take=_moving_take,
        give=_moving_give,
        remaining=_moving_remaining,
        reset=_moving_reset,
        lives=1,
        hit=_moving_hit,
    ),
    "gcra": Strategy(
        "gcra",
        wait=_gcra_wait,
        take=_gcra_take,
        give=_gcra_give,
        remaining=_gcra_remaining,
        reset=_gcra_reset,
        lives=1,
        hit=_gcra_hit,
    ),
}
"""The names are those of ``limits``; ``gcra`` (ITU-T I.371) is the one that ``limits`` lacks."""
