"""Fixed window: one counter that starts with the first request and ends a window later.

The state is ``(end of the window in microseconds, count)``; where a third number is kept, it is 0. At a boundary up to
twice the limit may pass within one window's length. The Redis counter is the one of ``limits``' fixed-window strategy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from flexmw.ratelimit.algorithms.base import Algorithm, RedisScript, State, States, one_key, within_limit
from flexmw.ratelimit.core import MILLISECOND, Rate

__all__ = ["FIXED_WINDOW"]


def _hit(states: States, index: int, now_us: int, rate: Rate, cost: int) -> tuple[int, int, int]:
    end_us = states[index]
    is_open = now_us < end_us
    count, reset_us = (states[index + 1], end_us - now_us) if is_open else (0, rate.window_us)
    remaining = rate.limit - count - cost
    if remaining < 0:
        return reset_us, max(0, rate.limit - count), reset_us
    states[index + 1] = count + cost  # first, because it may be too large
    if not is_open:
        states[index] = now_us + reset_us
    return 0, remaining, reset_us


def _wait(state: State, now_us: int, rate: Rate, cost: int) -> int:
    end_us, count = (state[0], state[1]) if state and now_us < state[0] else (now_us + rate.window_us, 0)
    return 0 if count + cost <= rate.limit else end_us - now_us


def _take(state: State, now_us: int, rate: Rate, cost: int) -> State:
    return (state[0], state[1] + cost) if state and now_us < state[0] else (now_us + rate.window_us, cost)


def _refund(state: State, now_us: int, rate: Rate, cost: int, age_us: int = 0) -> State:
    if state and now_us < state[0]:
        if cost > 0 and age_us > now_us - state[0] + rate.window_us:
            return state  # taken from the window before this one
        return state[0], max(0, state[1] - cost)
    return (now_us + rate.window_us, -cost) if cost < 0 else None


def _remaining(state: State, now_us: int, rate: Rate) -> int:
    return max(0, rate.limit - state[1]) if state and now_us < state[0] else rate.limit


def _reset(state: State, now_us: int, rate: Rate) -> int:
    return state[0] - now_us if state and now_us < state[0] else rate.window_us


# Reply: for each rate the count and the milliseconds until the window ends (0: no window is open).
# A window of the calendar has its end, in Unix milliseconds, as a negative number in the place of its length. Its key
# lives for a day longer: a process whose clock is behind still counts in it.
_READ: Final = f"""
local now
for i = 1, rates do
  local key, left, window = KEYS[i], redis.call('PTTL', KEYS[i]), tonumber(ARGV[3*i+1])
  local count = left > 0 and tonumber(redis.call('GET', key)) or 0
  if window < 0 then
    if not now then
      local time = redis.call('TIME')
      now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
    end
    left = math.max(1, -window - now)
  elseif left > window then  -- the server's clock was set back, or another server has taken over
    left = window
    redis.call('PEXPIRE', key, left)
  end
  reply[2*i], reply[2*i+1] = count, math.max(left, 0)
{within_limit("count")}end
"""

_TAKE: Final = """
if admitted > 0 and taking then
  for i = 1, rates do
    local key, cost, window = KEYS[i], tonumber(ARGV[3*i-1]), tonumber(ARGV[3*i+1])
    local take = checking and cost * admitted or math.max(-cost, -reply[2*i])
    if take < 0 and window > 0 and age_ms > window - reply[2*i+1] + 1 then take = 0 end
    if window < 0 then
      if take ~= 0 then
        redis.call('INCRBY', key, take)
        redis.call('PEXPIREAT', key, 86400000 - window)
      end
    elseif reply[2*i+1] > 0 then
      if take ~= 0 then redis.call('INCRBY', key, take) end
    elseif take > 0 then
      reply[2*i+1] = window
      redis.call('SET', key, take, 'PX', reply[2*i+1])
    end
    reply[2*i] = reply[2*i] + take
  end
end
"""


def _states(reply: Sequence[Any], rates: Sequence[Rate], later_cost: int) -> list[State]:
    return [(reply[2 * i + 1] * MILLISECOND, reply[2 * i] - later_cost) for i in range(len(rates))]


FIXED_WINDOW: Final = Algorithm(
    "fixed-window",
    wait=_wait,
    take=_take,
    refund=_refund,
    remaining=_remaining,
    reset=_reset,
    hit=_hit,
    lifetime_windows=1,
    redis=RedisScript(_READ, _TAKE, one_key, _states),
    in_words=True,
)
