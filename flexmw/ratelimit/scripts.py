"""One Redis script for each algorithm: all windows of a caller are checked and taken in one command.

The first three keep their counters where ``limits`` keeps them and in its format, so that its own strategies read and
write the same ones. Unlike its scripts they take nothing from a window when another one refuses, tell the state in the
same command, and use the server's clock everywhere.

``ARGV``: how many equal requests ask, or 0 only to look, or -1 to give back (or, negative, to charge) without asking,
less the milliseconds since it was taken: what left with its window does not come back from another one;
then of each rate its cost, its limit and its window in milliseconds; then, where a slot is asked for, how many there
are, the lease in milliseconds and the holder. ``KEYS``: those of each rate, then the slots'; then the same of each
earlier digest of the caller. The answer: how many of the requests are admitted (-1: none, for want of a slot), then
each rate's state after them, then how many slots are taken.
"""

from __future__ import annotations

from functools import cache
from re import sub
from typing import Final

__all__ = ["RENEW", "script"]

_FIXED: Final = """
for i = 1, rates do
  local key, left = KEYS[i], redis.call('PTTL', KEYS[i])
  local count = left > 0 and tonumber(redis.call('GET', key)) or 0
  out[2*i], out[2*i+1] = count, math.max(left, 0)
  --room count
end
--check
out[1] = fits
if fits > 0 and takes then
  for i = 1, rates do
    local key, cost = KEYS[i], tonumber(ARGV[3*i-1])
    local take = asks and cost * fits or math.max(-cost, -out[2*i])
    if take < 0 and age > tonumber(ARGV[3*i+1]) - out[2*i+1] + 1 then take = 0 end
    if out[2*i+1] > 0 then
      if take ~= 0 then redis.call('INCRBY', key, take) end
    elseif take > 0 then
      out[2*i+1] = tonumber(ARGV[3*i+1])
      redis.call('SET', key, take, 'PX', out[2*i+1])
    end
    out[2*i] = out[2*i] + take
  end
end
"""

_SLIDING: Final = """
for i = 1, rates do
  local before, key, window = KEYS[2*i-1], KEYS[2*i], tonumber(ARGV[3*i+1])
  local left = redis.call('PTTL', key)
  if left > 0 and left <= window then
    redis.call('RENAME', key, before)
    left = left + window
    redis.call('SET', key, 0, 'PX', left)
  end
  local count = left > 0 and tonumber(redis.call('GET', key)) or 0
  local previous = left > 0 and tonumber(redis.call('GET', before)) or 0
  out[3*i-1], out[3*i], out[3*i+1] = previous, count, math.max(left, 0)
  --room math.floor(previous * math.max(0, left - window) / window) + count
end
--check
out[1] = fits
if fits > 0 and takes then
  for i = 1, rates do
    local key, cost, window = KEYS[2*i], tonumber(ARGV[3*i-1]), tonumber(ARGV[3*i+1])
    local take, over = asks and cost * fits or math.max(-cost, -out[3*i]), age - 2 * window + out[3*i+1] - 1
    if not asks and cost > 0 and over > 0 then
      take = 0
      local back = over <= window and math.min(cost, out[3*i-1]) or 0
      if back > 0 then redis.call('INCRBY', KEYS[2*i-1], -back) end
      out[3*i-1] = out[3*i-1] - back
    end
    if out[3*i+1] > 0 then
      if take ~= 0 then redis.call('INCRBY', key, take) end
    elseif take > 0 then
      out[3*i+1] = 2 * window
      redis.call('SET', key, take, 'PX', out[3*i+1])
    end
    out[3*i] = out[3*i] + take
  end
end
"""

_MOVING: Final = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local stamp = string.format('%d.%06d', time[1], time[2])
local function at(key, index)
  local entry = redis.call('LINDEX', key, index)
  return entry and math.floor(tonumber(entry) * 1000000 + 0.5)
end
local function used(key, edge)
  local low, high = 0, redis.call('LLEN', key)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if at(key, middle) >= edge then low = middle + 1 else high = middle end
  end
  return low
end
for i = 1, rates do
  local key, limit, window = KEYS[i], tonumber(ARGV[3*i]), tonumber(ARGV[3*i+1]) * 1000
  local count, last = used(key, now - window), 0
  --room count
  if count > 0 then last = at(key, count - 1) + window - now + 1 end
  out[3*i-1], out[3*i], out[3*i+1] = count, last, 0
end
--check
out[1] = fits
if fits > 0 and takes then
  for i = 1, rates do
    local key, cost, limit, window = KEYS[i], tonumber(ARGV[3*i-1]), tonumber(ARGV[3*i]), tonumber(ARGV[3*i+1])
    local newer = age > 0 and math.min(used(key, now - age * 1000 + 1), out[3*i-1]) or 0
    local take = asks and cost * fits or math.max(-cost, newer - out[3*i-1])
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
      redis.call('LTRIM', key, 0, math.max(limit, out[3*i-1] + take) - 1)
      redis.call('PEXPIRE', key, window + 1)
    end
    out[3*i-1] = out[3*i-1] + take
    if out[3*i] == 0 then out[3*i] = window * 1000 + 1 end
  end
end
for i = 1, asks and fits < asked and rates or 0 do
  local window, count = tonumber(ARGV[3*i+1]) * 1000, out[3*i-1]
  local over = count + tonumber(ARGV[3*i-1]) - tonumber(ARGV[3*i])
  if over > 0 then
    out[3*i+1] = count > 0 and at(KEYS[i], math.max(0, count - over)) + window - now + 1 or window
  end
end
"""

_GCRA: Final = """
local time = redis.call('TIME')
local now = (tonumber(time[1]) - 1700000000) * 1000000 + tonumber(time[2])
local full, step = {}, {}
for i = 1, rates do
  local key, limit, window = KEYS[i], tonumber(ARGV[3*i]), tonumber(ARGV[3*i+1]) * 1000
  full[i] = math.max(tonumber(redis.call('GET', key) or now), now)
  step[i] = tonumber(ARGV[3*i-1]) * window / limit
  local over = full[i] - now - window - 0.5
  if not asks then
    step[i] = -step[i]
    if step[i] < 0 then step[i] = math.min(0, step[i] + age * 1000) end
  elseif over + step[i] > 0 then
    fits = 0
  elseif fits > 1 then
    fits = math.min(fits, math.floor(-over / step[i]))
  end
end
--check
out[1] = fits
for i = 1, rates do
  local key = KEYS[i]
  if fits > 0 and takes and step[i] ~= 0 then
    full[i] = full[i] + step[i] * fits
    if full[i] > now then
      redis.call('SET', key, string.format('%.3f', full[i]), 'PX', math.ceil((full[i] - now) / 1000))
    else
      redis.call('DEL', key)
    end
  end
  out[i+1] = string.format('%.3f', math.max(0, full[i] - now))
end
"""

_ALGORITHMS: Final[dict[str, str]] = {
    "fixed-window": _FIXED,
    "sliding-window-counter": _SLIDING,
    "moving-window": _MOVING,
    "gcra": _GCRA,
}

# How many of the requests fit into rate `i`: put in where it is asked, because a function costs more than it does.
_ROOM: Final = """  if asks then
    local spent, cost, limit = SPENT, tonumber(ARGV[3*i-1]), tonumber(ARGV[3*i])
    if spent + cost > limit then
      fits = 0
    elseif fits > 1 then
      fits = math.min(fits, math.floor((limit - spent) / cost))
    end
  end"""

_START: Final = """
local mode, out = tonumber(ARGV[1]), {}
local asks, takes, fits, rates = mode >= 0, mode ~= 0, math.max(mode, 1), (#ARGV - 1) / 3
local asked, age = fits, -1 - mode
"""

# What a caller used under an earlier pepper goes with it: the counters move, with their time to live, before anything
# is read. Where both are there, a process that does not know the new one still counts apart: those are left to run out.
_MOVE: Final = """
for from = each, #KEYS - each, each do
  for last = width, rates * width, width do
    if redis.call('EXISTS', KEYS[last]) == 0 and redis.call('EXISTS', KEYS[from+last]) == 1 then
      for at = last - width + 1, last do
        if redis.call('EXISTS', KEYS[from+at]) == 1 then redis.call('RENAME', KEYS[from+at], KEYS[at]) end
      end
    end
  end
end
"""

# A holder that died does not give its slot back: its lease ends by the server's clock. A rate's refusal takes none.
_SLOTS: Final = """
rates = rates - 1
local clock = redis.call('TIME')
local instant = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local most, lease, holder = tonumber(ARGV[#ARGV-2]), tonumber(ARGV[#ARGV-1]), ARGV[#ARGV]
local held = 0
"""
_SLOTS_CHECK: Final = """
for at = each, #KEYS, each do
  redis.call('ZREMRANGEBYSCORE', KEYS[at], '-inf', instant)
  held = held + redis.call('ZCARD', KEYS[at])
end
if fits > 0 and held >= most then fits = -1 end
"""
_SLOTS_TAKE: Final = """
if fits > 0 and takes then
  redis.call('ZADD', KEYS[each], instant + lease, holder)
  if redis.call('PTTL', KEYS[each]) < lease then redis.call('PEXPIRE', KEYS[each], lease) end
  held = held + 1
end
table.insert(out, held)
"""

RENEW: Final = """
if not redis.call('ZSCORE', KEYS[1], ARGV[2]) then return 0 end
local clock, lease = redis.call('TIME'), tonumber(ARGV[1])
redis.call('ZADD', KEYS[1], tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000) + lease, ARGV[2])
if redis.call('PTTL', KEYS[1]) < lease then redis.call('PEXPIRE', KEYS[1], lease) end
return 1
"""
"""Begin a lease anew that is still held. One that was given back meanwhile stays given back."""


@cache
def script(strategy: str, *, slots: bool = False, moves: bool = False) -> str:
    """The script of an algorithm, with or without a slot in the same decision and earlier digests of the caller."""
    width = 2 if strategy == "sliding-window-counter" else 1
    check, take = (_SLOTS_CHECK, _SLOTS_TAKE) if slots else ("", "")
    parts = [_START, _SLOTS if slots else ""]
    if slots or moves:
        parts.append(f"local width, each = {width}, rates * {width} + {int(slots)}\n")
    parts += [_MOVE if moves else "", _ALGORITHMS[strategy].replace("--check", check), take, "return out\n"]
    return sub(r" *--room (.+)", lambda found: _ROOM.replace("SPENT", found[1]), "".join(parts))
