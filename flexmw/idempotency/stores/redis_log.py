"""The log of a response that is still being made, in redis or valkey.

The log lies in the hash of its key, beside the entry: one key, so a cluster has both on one node, one command deletes
both, and both expire together. The bytes lie in pages, because redis appends to strings, and not to fields of a hash.

========== ========================================================================================================
field      value
========== ========================================================================================================
``g``      the generation
``lt``     the token under which the log was begun. A worker of an earlier version changes the token of a key and
           leaves the other fields: the log counts only while this is the token of the key
``h``      the head
``n``      the length of the log in bytes
``e``      ``1`` when the log has ended
``p0`` ... the pages, each of 16 KiB but for the last one
``w``      when a reader has asked last, in milliseconds by the clock of the server
========== ========================================================================================================

The scripts use only commands that the script of the entries uses too, so a user whose ACL allows that one may run them.
"""

from __future__ import annotations

from math import inf
from typing import Any, Final

from flexmw.idempotency.stores import Appended, Piece
from flexmw.kit.redis_script import script

__all__ = ["APPEND", "READ", "appended", "piece"]

_START: Final = """
local key, generation = KEYS[1], ARGV[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held = redis.call('HMGET', key, 'token', 'g', 'lt', 'n', 'e', 'w', 'h', 'until', 'lease')
if not held[1] then return {0} end
local has_log = held[2] == generation and held[3] == held[1]
local size = has_log and tonumber(held[4]) or 0
local page_size = 16384
local function page(number) return redis.call('HMGET', key, 'p' .. number)[1] or '' end
"""

APPEND: Final = script(
    _START
    + """
local token, at, data, head, last = ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6]
local lease, ttl = tonumber(ARGV[7]), tonumber(ARGV[8])
if held[1] ~= token then return {0} end
if size == at and not (has_log and held[5] == '1') then
  local number = math.floor(size / page_size)
  local rest = (size % page_size > 0 and page(number) or '') .. data
  -- A full server refuses the first write that needs room, so it refuses the whole append: the log stays behind, and
  -- the request goes on.
  while #rest > 0 do
    redis.call('HSET', key, 'p' .. number, string.sub(rest, 1, page_size))
    rest, number = string.sub(rest, page_size + 1), number + 1
  end
  size = size + #data
  redis.call('HSET', key, 'g', generation, 'lt', token, 'n', size, 'e', last)
  if not has_log then redis.call('HSET', key, 'h', head) end
elseif not (has_log and size == at + #data and (last == '0' or held[5] == '1')) then
  return {0}
end
redis.call('HSET', key, 'until', string.format('%.0f', now + lease), 'lease', lease)
redis.call('PEXPIRE', key, math.max(ttl, lease, 1))
return {1, size, held[6] and string.format('%.0f', math.max(0, now - held[6])) or '-1'}
"""
)
"""``ARGV``: generation, token, offset, bytes, head, ``1`` for the last append, lease and time to live in milliseconds.
The reply is ``{0}``, or ``{1, size, milliseconds since a reader has asked or -1}``."""

READ: Final = script(
    _START
    + """
local start, limit = tonumber(ARGV[2]), tonumber(ARGV[3])
-- A full server refuses this write. The reader gets its bytes all the same.
if not held[6] or now - held[6] > 250 or now < tonumber(held[6]) then
  redis.pcall('HSET', key, 'w', string.format('%.0f', now))
end
if not has_log then return {0} end
local stop, parts = math.min(size, start + limit), {}
if start < stop then
  local first, last = math.floor(start / page_size), math.floor((stop - 1) / page_size)
  for number = first, last do
    local base = number * page_size
    parts[#parts + 1] = string.sub(page(number), math.max(1, start - base + 1), stop - base)
  end
end
local left = tonumber(held[8]) - now
if left > tonumber(held[9]) then left = 0 end
return {1, held[7] or '', table.concat(parts), size, held[5], string.format('%.0f', left)}
"""
)
"""``ARGV``: generation, offset, length at most. The reply is ``{0}``, or ``{1, head, bytes, size, ended, milliseconds
that are left of the lease}``."""


def appended(reply: list[Any]) -> Appended | None:
    """The result of :data:`APPEND`."""
    if not reply[0]:
        return None
    milliseconds = int(reply[2])
    return Appended(reply[1], inf if milliseconds < 0 else milliseconds / 1e3)


def piece(reply: list[Any]) -> Piece | None:
    """The result of :data:`READ`."""
    if not reply[0]:
        return None
    _, head, data, size, ended, left = reply
    return Piece(head, data, size, ended == b"1", int(left) / 1e3)
