"""Sliding-window counter: two counters, the previous window's weighted by the part of it that still overlaps.

The state is ``(end of the current window in microseconds, its count, the count of the window before)``. It costs as
little as a fixed window and smooths the boundary. The Redis counters are those of ``limits``' strategy of this name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from flexmw.ratelimit.algorithms.base import PREFIX, Algorithm, RedisScript, State, States, within_limit
from flexmw.ratelimit.core import MILLISECOND, Rate

__all__ = ["SLIDING_WINDOW"]


def _rolled(state: State, now_us: int, window_us: int) -> tuple[int, int, int]:
    """The state with its windows moved on to this moment."""
    if state:
        end_us, current, _ = state
        if now_us < end_us:
            return state  # type: ignore[no-any-return]
        if now_us < end_us + window_us:
            return end_us + window_us, 0, current
    return now_us + window_us, 0, 0


def _hit(states: States, index: int, now_us: int, rate: Rate, cost: int) -> tuple[int, int, int]:
    end_us = states[index]
    if now_us >= end_us:
        return _hit_rolled(states, index, now_us, rate, cost)
    place = index + 1
    current = states[place]
    remaining = rate.limit - current
    if previous := states[place + 1]:  # an attribute of a named tuple costs as much as the arithmetic of this function
        remaining -= previous * (end_us - now_us) // rate.window_us
    if remaining >= cost:
        states[place] = current + cost
        return 0, remaining - cost, end_us - now_us
    wait_us = _wait((end_us, current, previous), now_us, rate, cost)
    return wait_us, max(0, remaining), wait_us


def _hit_rolled(states: States, index: int, now_us: int, rate: Rate, cost: int) -> tuple[int, int, int]:
    """:func:`_hit` where no window is open."""
    end_us, current, previous = states[index : index + 3]
    state = (end_us, current, previous) if end_us else None
    if wait_us := _wait(state, now_us, rate, cost):
        return wait_us, _remaining(state, now_us, rate), wait_us
    end_us, current, previous = state = _take(state, now_us, rate, cost)
    states[index + 1] = current  # first, because it may be too large
    states[index], states[index + 2] = end_us, previous
    return 0, _remaining(state, now_us, rate), end_us - now_us


def _wait(state: State, now_us: int, rate: Rate, cost: int) -> int:
    window_us = rate.window_us
    end_us, current, previous = _rolled(state, now_us, window_us)
    left_us = end_us - now_us
    allowance = rate.limit - cost - current
    if previous * left_us // window_us <= allowance:
        return 0
    if allowance >= 0:
        # The previous window's share shrinks as time passes. Wait until just after the last moment at which the share
        # is one too many.
        return left_us - ((allowance + 1) * window_us - 1) // previous
    return left_us + window_us - max(0, (rate.limit - cost + 1) * window_us - 1) // max(1, current)


def _take(state: State, now_us: int, rate: Rate, cost: int) -> State:
    end_us, current, previous = _rolled(state, now_us, rate.window_us)
    return end_us, current + cost, previous


def _refund(state: State, now_us: int, rate: Rate, cost: int, age_us: int = 0) -> State:
    end_us, current, previous = _rolled(state, now_us, rate.window_us)
    before_window_us = age_us - (now_us - end_us + rate.window_us)
    if cost > 0 and before_window_us > 0:  # taken from the previous window, or from one before it
        return end_us, current, max(0, previous - cost) if before_window_us <= rate.window_us else previous
    return end_us, max(0, current - cost), previous


def _remaining(state: State, now_us: int, rate: Rate) -> int:
    end_us, current, previous = _rolled(state, now_us, rate.window_us)
    return max(0, rate.limit - current - previous * (end_us - now_us) // rate.window_us)


def _reset(state: State, now_us: int, rate: Rate) -> int:
    return _rolled(state, now_us, rate.window_us)[0] - now_us


# Keys: for each rate the previous window's counter, then the current one's. The current counter lives for two windows,
# because it becomes the previous one: a time to live of one window or less means that its window is over.
# Reply: for each rate the previous count, the current count, and the current counter's time to live in milliseconds
# (0: no window is open).
_READ: Final = f"""
for i = 1, rates do
  local before, key, window = KEYS[2*i-1], KEYS[2*i], tonumber(ARGV[3*i+1])
  local left = redis.call('PTTL', key)
  if left > 2 * window then  -- the server's clock was set back, or another server has taken over
    left = 2 * window
    redis.call('PEXPIRE', key, left)
  end
  if left > 0 and left <= window then
    redis.call('RENAME', key, before)
    left = left + window
    redis.call('SET', key, 0, 'PX', left)
  end
  local count = left > 0 and tonumber(redis.call('GET', key)) or 0
  local previous = left > 0 and tonumber(redis.call('GET', before)) or 0
  reply[3*i-1], reply[3*i], reply[3*i+1] = previous, count, math.max(left, 0)
{within_limit("math.floor(previous * math.max(0, left - window) / window) + count")}end
"""

_TAKE: Final = """
if admitted > 0 and taking then
  for i = 1, rates do
    local key, cost, window = KEYS[2*i], tonumber(ARGV[3*i-1]), tonumber(ARGV[3*i+1])
    local take = checking and cost * admitted or math.max(-cost, -reply[3*i])
    local before_window = age_ms - 2 * window + reply[3*i+1] - 1
    if not checking and cost > 0 and before_window > 0 then
      take = 0
      local back = before_window <= window and math.min(cost, reply[3*i-1]) or 0
      if back > 0 then redis.call('INCRBY', KEYS[2*i-1], -back) end
      reply[3*i-1] = reply[3*i-1] - back
    end
    if reply[3*i+1] > 0 then
      if take ~= 0 then redis.call('INCRBY', key, take) end
    elseif take > 0 then
      reply[3*i+1] = 2 * window
      redis.call('SET', key, take, 'PX', reply[3*i+1])
    end
    reply[3*i] = reply[3*i] + take
  end
end
"""


def _keys(key: str) -> tuple[str, ...]:
    return f"{PREFIX}{{{key}}}/-1", f"{PREFIX}{{{key}}}"


def _states(reply: Sequence[Any], rates: Sequence[Rate], later_cost: int) -> list[State]:
    states: list[State] = []
    for i, rate in enumerate(rates):
        previous, count, left_ms = reply[3 * i : 3 * i + 3]
        end_us = left_ms * MILLISECOND - rate.window_us
        states.append((end_us, count - later_cost, previous) if left_ms else None)
    return states


SLIDING_WINDOW: Final = Algorithm(
    "sliding-window-counter",
    wait=_wait,
    take=_take,
    refund=_refund,
    remaining=_remaining,
    reset=_reset,
    hit=_hit,
    lifetime_windows=2,
    redis=RedisScript(_READ, _TAKE, _keys, _states),
    in_words=True,
)
