"""GCRA (generic cell rate algorithm, ITU-T I.371): a leaky bucket that is one number.

The state is the theoretical arrival time (TAT) in microseconds: the moment at which everything that was taken has
drained. A cost moves it on by its share of the window. ``limits`` has no strategy of this kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any, Final

from flexmw.ratelimit.algorithms.base import Algorithm, RedisScript, State, States, one_key
from flexmw.ratelimit.core import Rate

__all__ = ["GCRA"]

_ROUNDING_US: Final = 0.5
"""The error of a sum of fractions, in microseconds. The resolution of the algorithm is one microsecond."""


def _hit(states: States, index: str, now_us: int, rate: Rate, cost: int) -> tuple[int, int, int]:
    state = states.get(index)
    if wait_us := _wait(state, now_us, rate, cost):
        return wait_us, _remaining(state, now_us, rate), wait_us
    state = states[index] = _take(state, now_us, rate, cost)
    return 0, _remaining(state, now_us, rate), ceil(state - now_us)


def _wait(state: State, now_us: int, rate: Rate, cost: int) -> int:
    excess_us = max(0.0, (state or 0.0) - now_us) + cost * rate.window_us / rate.limit - rate.window_us
    return 0 if excess_us <= _ROUNDING_US else ceil(excess_us)


def _take(state: State, now_us: int, rate: Rate, cost: int) -> State:
    return max(state or 0.0, float(now_us)) + cost * rate.window_us / rate.limit


def _refund(state: State, now_us: int, rate: Rate, cost: int, age_us: int = 0) -> State:
    taken_us = cost * rate.window_us / rate.limit
    # The bucket has drained since the cost was taken, by as much as time has passed.
    return max(state or 0.0, float(now_us)) - (taken_us if cost < 0 else max(0.0, taken_us - age_us))


def _remaining(state: State, now_us: int, rate: Rate) -> int:
    free_us = rate.window_us - max(0.0, (state or 0.0) - now_us)
    return max(0, int(free_us * rate.limit / rate.window_us + 1e-6))


def _reset(state: State, now_us: int, rate: Rate) -> int:
    return ceil(max(0.0, (state or 0.0) - now_us))


# Times count from 2023-11-14 22:13:20 UTC (1700000000), so that microseconds with three decimals fit into a double.
# Reply: for each rate the microseconds until the bucket is empty, as a text with three decimals.
_READ: Final = """
local time = redis.call('TIME')
local now = (tonumber(time[1]) - 1700000000) * 1000000 + tonumber(time[2])
local tat, increment = {}, {}
for i = 1, rates do
  local key, limit, window = KEYS[i], tonumber(ARGV[3*i]), tonumber(ARGV[3*i+1]) * 1000
  tat[i] = math.max(tonumber(redis.call('GET', key) or now), now)
  increment[i] = tonumber(ARGV[3*i-1]) * window / limit
  local excess = tat[i] - now - window - 0.5
  if not checking then
    increment[i] = -increment[i]
    if increment[i] < 0 then increment[i] = math.min(0, increment[i] + age_ms * 1000) end
  elseif excess + increment[i] > 0 then
    admitted = 0
  elseif admitted > 1 then
    admitted = math.min(admitted, math.floor(-excess / increment[i]))
  end
end
"""

_TAKE: Final = """
for i = 1, rates do
  local key = KEYS[i]
  if admitted > 0 and taking and increment[i] ~= 0 then
    tat[i] = tat[i] + increment[i] * admitted
    if tat[i] > now then
      redis.call('SET', key, string.format('%.3f', tat[i]), 'PX', math.ceil((tat[i] - now) / 1000))
    else
      redis.call('DEL', key)
    end
  end
  reply[i+1] = string.format('%.3f', math.max(0, tat[i] - now))
end
"""


def _states(reply: Sequence[Any], rates: Sequence[Rate], later_cost: int) -> list[State]:
    return [float(reply[i]) - later_cost * rate.window_us / rate.limit for i, rate in enumerate(rates)]


GCRA: Final = Algorithm(
    "gcra",
    wait=_wait,
    take=_take,
    refund=_refund,
    remaining=_remaining,
    reset=_reset,
    hit=_hit,
    lifetime_windows=1,
    redis=RedisScript(_READ, _TAKE, one_key, _states),
)
