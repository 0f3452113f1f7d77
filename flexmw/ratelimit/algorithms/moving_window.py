"""Moving window (sliding log): the moment of every admitted request, so that no window of time exceeds the limit.

The state is a :class:`Log`. Exact and the most expensive: memory grows with the number of requests, in Redis with their
costs. The Redis list is the one of ``limits``' moving-window strategy: Unix seconds, newest first.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from math import inf
from typing import Any, Final

from flexmw.ratelimit.algorithms.base import Algorithm, RedisScript, State, States, one_key, within_limit
from flexmw.ratelimit.core import Rate

__all__ = ["MOVING_WINDOW", "Log"]


class Log:
    """The moments of one caller's admitted requests in microseconds, oldest first, each with the costs that were taken
    then. Expired moments are removed lazily.

    One entry for each unit, as in redis, was tried: a request that cost three thousand million tokens raised
    ``MemoryError``.
    """

    __slots__ = ("_costs", "_first", "_times", "_used")

    def __init__(self) -> None:
        self._times: list[int] = []
        self._costs: list[int] = []
        self._first = self._used = 0

    def used(self, now_us: int, window_us: int) -> int:
        """The sum of the costs inside the window."""
        times, costs, first = self._times, self._costs, self._first
        self._first = bisect_left(times, now_us - window_us, first)
        for place in range(first, self._first):
            self._used -= costs[place]
        if self._first > 64 and self._first * 2 > len(times):
            del times[: self._first], costs[: self._first]
            self._first = 0
        return self._used

    def oldest(self, index: int) -> int:
        """The moment at which the unit at ``index`` inside the window was taken; 0 is the oldest."""
        place = self._first
        while index >= self._costs[place]:
            index -= self._costs[place]
            place += 1
        return self._times[place]

    def add(self, now_us: int, cost: int) -> None:
        """Enter a cost. A cost of 0 is no entry."""
        if not cost:
            return
        if self._times and self._times[-1] == now_us and self._first < len(self._times):
            self._costs[-1] += cost
        else:
            self._times.append(now_us)
            self._costs.append(cost)
        self._used += cost

    def drop(self, cost: int, until_us: float = inf) -> None:
        """Remove the newest ``cost`` units that are not later than ``until_us``."""
        end = start = bisect_right(self._times, until_us)
        while cost and start > self._first:
            taken = min(cost, self._costs[start - 1])
            self._costs[start - 1] -= taken
            self._used -= taken
            cost -= taken
            if not self._costs[start - 1]:
                start -= 1
        del self._times[start:end], self._costs[start:end]


class _LogSummary:
    """A log in a store, as far as a reply describes it: enough for the functions below, at moment 0."""

    __slots__ = ("_count", "_leaves_us", "_window_us")

    def __init__(self, count: int, leaves_us: int, window_us: int) -> None:
        self._count, self._leaves_us, self._window_us = count, leaves_us, window_us

    def used(self, now_us: int, window_us: int) -> int:
        return self._count

    def oldest(self, index: int) -> int:
        return self._leaves_us - self._window_us - 1


def _wait(state: State, now_us: int, rate: Rate, cost: int) -> int:
    used = state.used(now_us, rate.window_us) if state else 0
    excess = used + cost - rate.limit
    if excess <= 0:
        return 0
    if not used:
        return rate.window_us
    return state.oldest(min(excess, used) - 1) + rate.window_us - now_us + 1  # type: ignore[no-any-return]


def _take(state: State, now_us: int, rate: Rate, cost: int) -> State:
    log = state or Log()
    log.add(now_us, cost)
    return log


def _refund(state: State, now_us: int, rate: Rate, cost: int, age_us: int = 0) -> State:
    if cost < 0:
        return _take(state, now_us, rate, -cost)
    if state:
        state.drop(cost, now_us - age_us)
    return state


def _remaining(state: State, now_us: int, rate: Rate) -> int:
    return max(0, rate.limit - state.used(now_us, rate.window_us)) if state else rate.limit


def _reset(state: State, now_us: int, rate: Rate) -> int:
    if state and state.used(now_us, rate.window_us):
        return state.oldest(0) + rate.window_us - now_us + 1  # type: ignore[no-any-return]
    return rate.window_us


def _hit(states: States, index: str, now_us: int, rate: Rate, cost: int) -> tuple[int, int, int]:
    state = states.get(index)
    if wait_us := _wait(state, now_us, rate, cost):
        return wait_us, _remaining(state, now_us, rate), wait_us
    state = states[index] = _take(state, now_us, rate, cost)
    return 0, _remaining(state, now_us, rate), _reset(state, now_us, rate)


# Reply: for each rate the count, the microseconds until the oldest entry leaves the window, and, of a refused request,
# the microseconds until enough entries have left (else 0).
_READ: Final = f"""
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local stamp = string.format('%d.%06d', time[1], time[2])
local function time_at(key, index)
  local entry = redis.call('LINDEX', key, index)
  return entry and math.floor(tonumber(entry) * 1000000 + 0.5)
end
local function count_since(key, edge)
  local low, high = 0, redis.call('LLEN', key)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if time_at(key, middle) >= edge then low = middle + 1 else high = middle end
  end
  return low
end
for i = 1, rates do
  local key, limit, window = KEYS[i], tonumber(ARGV[3*i]), tonumber(ARGV[3*i+1]) * 1000
  local count, last = count_since(key, now - window), 0
{within_limit("count")}\
  if count > 0 then last = time_at(key, count - 1) + window - now + 1 end
  reply[3*i-1], reply[3*i], reply[3*i+1] = count, last, 0
end
"""

# LPUSH takes 4000 entries at a time because `unpack` is limited by Lua's stack. A refund of older entries marks them
# with an empty text and removes the marked ones, because a Redis list has no removal by index.
_EMPTY: Final = """
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('LPUSH', KEYS[1], 0)
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
"""

_TAKE: Final = """
if admitted > 0 and taking then
  for i = 1, rates do
    local key, cost, limit, window = KEYS[i], tonumber(ARGV[3*i-1]), tonumber(ARGV[3*i]), tonumber(ARGV[3*i+1])
    local newer = age_ms > 0 and math.min(count_since(key, now - age_ms * 1000 + 1), reply[3*i-1]) or 0
    -- What is charged above the limit at once changes no decision. Without the bound, a settled cost of a thousand
    -- million would stop the server for minutes.
    local take = checking and cost * admitted or math.min(limit, math.max(-cost, newer - reply[3*i-1]))
    if take < 0 and newer > 0 then
      for j = newer, newer - take - 1 do redis.call('LSET', key, j, '') end
      redis.call('LREM', key, 0, '')
    elseif take < 0 then
      redis.call('LTRIM', key, -take, -1)
    elseif take > 0 then
      for done = 0, take - 1, 4000 do
        local entries = {}
        for j = 1, math.min(4000, take - done) do entries[j] = stamp end
        redis.call('LPUSH', key, unpack(entries))
      end
      redis.call('LTRIM', key, 0, math.max(limit, reply[3*i-1] + take) - 1)
      redis.call('PEXPIRE', key, window + 1)
    end
    reply[3*i-1] = reply[3*i-1] + take
    if reply[3*i] == 0 then reply[3*i] = window * 1000 + 1 end
  end
end
for i = 1, checking and admitted < requested and rates or 0 do
  local window, count = tonumber(ARGV[3*i+1]) * 1000, reply[3*i-1]
  local excess = count + tonumber(ARGV[3*i-1]) - tonumber(ARGV[3*i])
  if excess > 0 then
    reply[3*i+1] = count > 0 and time_at(KEYS[i], math.max(0, count - excess)) + window - now + 1 or window
  end
end
"""


def _states(reply: Sequence[Any], rates: Sequence[Rate], later_cost: int) -> list[State]:
    states: list[State] = []
    for i, rate in enumerate(rates):
        count, oldest_leaves_us, enough_leave_us = reply[3 * i : 3 * i + 3]
        states.append(_LogSummary(count - later_cost, enough_leave_us or oldest_leaves_us, rate.window_us))
    return states


MOVING_WINDOW: Final = Algorithm(
    "moving-window",
    wait=_wait,
    take=_take,
    refund=_refund,
    remaining=_remaining,
    reset=_reset,
    hit=_hit,
    lifetime_windows=1,
    redis=RedisScript(_READ, _TAKE, one_key, _states, _EMPTY),
)
