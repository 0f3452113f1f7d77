"""One Redis script for each algorithm: all windows of a caller are checked and taken in one command.

The first three keep their counters where ``limits`` keeps them and in its format, so that its own strategies read and
write the same ones. Unlike its scripts they take nothing from a window when another one refuses, tell the state in the
same command, and use the server's clock everywhere.

``ARGV``: the cost, then the limit and the window in milliseconds of each rate; a 0 after them means only to look. A
negative limit means that the cost is given back (or charged, when it is negative) without asking. The answer: 1 or 0,
then each window's state.
"""

from __future__ import annotations

from typing import Final

__all__ = ["SCRIPTS"]

_FIXED: Final = """
local cost, ok, out = tonumber(ARGV[1]), 1, {}
for i, key in ipairs(KEYS) do
  local left = redis.call('PTTL', key)
  local count = left > 0 and tonumber(redis.call('GET', key)) or 0
  out[2*i], out[2*i+1] = count, math.max(left, 0)
  local limit = tonumber(ARGV[2*i])
  if limit >= 0 and count + cost > limit then ok = 0 end
end
out[1] = ok
if ok == 1 and cost ~= 0 and #ARGV % 2 == 1 then
  for i, key in ipairs(KEYS) do
    local take = tonumber(ARGV[2*i]) < 0 and math.max(-cost, -out[2*i]) or cost
    if out[2*i+1] > 0 then
      redis.call('INCRBY', key, take)
    elseif take > 0 then
      out[2*i+1] = tonumber(ARGV[2*i+1])
      redis.call('SET', key, take, 'PX', out[2*i+1])
    end
    out[2*i] = out[2*i] + take
  end
end
return out
"""

_SLIDING: Final = """
local cost, ok, out = tonumber(ARGV[1]), 1, {}
for i = 1, #KEYS / 2 do
  local before, key, window = KEYS[2*i-1], KEYS[2*i], tonumber(ARGV[2*i+1])
  local left = redis.call('PTTL', key)
  if left > 0 and left <= window then
    redis.call('RENAME', key, before)
    left = left + window
    redis.call('SET', key, 0, 'PX', left)
  end
  local count = left > 0 and tonumber(redis.call('GET', key)) or 0
  local previous = left > 0 and tonumber(redis.call('GET', before)) or 0
  out[3*i-1], out[3*i], out[3*i+1] = previous, count, math.max(left, 0)
  local limit = tonumber(ARGV[2*i])
  local used = math.floor(previous * math.max(0, left - window) / window) + count
  if limit >= 0 and used + cost > limit then ok = 0 end
end
out[1] = ok
if ok == 1 and cost ~= 0 and #ARGV % 2 == 1 then
  for i = 1, #KEYS / 2 do
    local take = tonumber(ARGV[2*i]) < 0 and math.max(-cost, -out[3*i]) or cost
    if out[3*i+1] > 0 then
      redis.call('INCRBY', KEYS[2*i], take)
    elseif take > 0 then
      out[3*i+1] = 2 * tonumber(ARGV[2*i+1])
      redis.call('SET', KEYS[2*i], take, 'PX', out[3*i+1])
    end
    out[3*i] = out[3*i] + take
  end
end
return out
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
local cost, ok, out = tonumber(ARGV[1]), 1, {}
for i, key in ipairs(KEYS) do
  local limit, window = tonumber(ARGV[2*i]), tonumber(ARGV[2*i+1]) * 1000
  local count, last, free = used(key, now - window), 0, 0
  local over = count + cost - limit
  if limit >= 0 and over > 0 then
    ok = 0
    free = count > 0 and at(key, math.max(0, count - over)) + window - now + 1 or window
  end
  if count > 0 then last = at(key, count - 1) + window - now + 1 end
  out[3*i-1], out[3*i], out[3*i+1] = count, last, free
end
out[1] = ok
if ok == 1 and cost ~= 0 and #ARGV % 2 == 1 then
  for i, key in ipairs(KEYS) do
    local limit, window = tonumber(ARGV[2*i]), tonumber(ARGV[2*i+1])
    local take = limit < 0 and math.max(-cost, -out[3*i-1]) or cost
    if take < 0 then
      redis.call('LTRIM', key, -take, -1)
    elseif take > 0 then
      for done = 0, take - 1, 4000 do
        local entries = {}
        for j = 1, math.min(4000, take - done) do entries[j] = stamp end
        redis.call('LPUSH', key, unpack(entries))
      end
      redis.call('LTRIM', key, 0, math.max(math.abs(limit), out[3*i-1] + take) - 1)
      redis.call('PEXPIRE', key, window + 1)
    end
    out[3*i-1] = out[3*i-1] + take
    if out[3*i] == 0 then out[3*i] = window * 1000 + 1 end
  end
end
return out
"""

_GCRA: Final = """
local time = redis.call('TIME')
local now = (tonumber(time[1]) - 1700000000) * 1000000 + tonumber(time[2])
local cost, ok, out, full, step = tonumber(ARGV[1]), 1, {}, {}, {}
for i, key in ipairs(KEYS) do
  local limit, window = tonumber(ARGV[2*i]), tonumber(ARGV[2*i+1]) * 1000
  full[i] = math.max(tonumber(redis.call('GET', key) or now), now)
  step[i] = cost * window / math.abs(limit)
  if limit < 0 then step[i] = -step[i] elseif full[i] - now + step[i] > window + 0.5 then ok = 0 end
end
out[1] = ok
for i, key in ipairs(KEYS) do
  if ok == 1 and cost ~= 0 and #ARGV % 2 == 1 then
    full[i] = full[i] + step[i]
    if full[i] > now then
      redis.call('SET', key, string.format('%.3f', full[i]), 'PX', math.ceil((full[i] - now) / 1000))
    else
      redis.call('DEL', key)
    end
  end
  out[i+1] = string.format('%.3f', math.max(0, full[i] - now))
end
return out
"""

SCRIPTS: Final[dict[str, str]] = {
    "fixed-window": _FIXED,
    "sliding-window-counter": _SLIDING,
    "moving-window": _MOVING,
    "gcra": _GCRA,
}
