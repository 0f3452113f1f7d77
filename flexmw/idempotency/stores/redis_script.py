"""The scripts on the entries of a redis or valkey store, and the server's clock.

``ARGV`` of :data:`ENTRY`, a script on one key, after the name of the operation and a token:

========== =================================================================================================
``load``   nothing
``swap``   the expected token, the entry, lease and time to live in milliseconds, the deadline of the write
``extend`` lease and time to live in milliseconds
``drop``   nothing
========== =================================================================================================

``ARGV`` of :data:`PAIR`, a script on two keys: the deadline, then for each key the new token, the expected token, the
entry, lease and time to live in milliseconds. The second key is written only if the first one is.

The last item of every reply to ``load``, ``swap`` and :data:`PAIR` is the server's clock in milliseconds.
"""

from __future__ import annotations

from time import monotonic
from typing import Any, Final

from flexmw.idempotency.stores import Held, Swap
from flexmw.kit.redis_script import script

__all__ = [
    "ASKED",
    "ENTRY",
    "LATE",
    "PAIR",
    "PAIR_PATIENCE",
    "ServerClock",
    "glob_of",
    "held_in",
    "milliseconds",
    "pair_of",
    "pair_values",
    "swap_of",
    "too_late",
]

_START: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local clock = string.format('%.0f', now)
local function write(key, found, token, entry, lease, ttl)
  -- A full server refuses the first write that needs room, and no later one of the script: whoever holds the key
  -- already renews its lease and stores its response, and a new key is refused.
  if found ~= '' then redis.call('PEXPIRE', key, math.max(ttl, lease, 1)) end
  if entry then
    if found ~= '' then redis.call('DEL', key) end  -- the log of the response, too
    redis.call('HSET', key, 'token', token, 'entry', entry)
  end
  redis.call('HSET', key, 'until', string.format('%.0f', now + lease), 'lease', lease)
  redis.call('PEXPIRE', key, math.max(ttl, lease, 1))
end
local function reply(state, held)
  if not held[1] then return {state, clock} end
  local left = tonumber(held[2]) - now
  if left > tonumber(held[3]) then left = 0 end
  return {state, held[1], held[4], string.format('%.0f', left), clock}
end
"""

ENTRY: Final = script(
    _START
    + """
local key, op, token = KEYS[1], ARGV[1], ARGV[2]
local held = redis.call('HMGET', key, 'token', 'until', 'lease', 'entry')
local found = held[1] or ''
if op == 'swap' then
  if found == ARGV[3] and found ~= token then
    -- A server that was frozen carries out what lies in its buffers, long after the client was told that nothing ran.
    if now > tonumber(ARGV[7]) then return {2, clock} end
    write(key, found, token, ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]))
    return {1, clock}
  end
elseif op == 'extend' then
  if found ~= token then return {0} end
  write(key, found, token, false, tonumber(ARGV[3]), tonumber(ARGV[4]))
  return {1}
elseif op == 'drop' then
  if found ~= token then return {0} end
  redis.call('DEL', key)
  return {1}
end
return reply(0, held)
"""
)

PAIR: Final = script(
    _START
    + """
local states, founds, isnew = {}, {}, {}
for at = 1, 2 do
  local held, token = redis.call('HMGET', KEYS[at], 'token', 'until', 'lease', 'entry'), ARGV[5 * at - 3]
  states[at], founds[at] = held, held[1] or ''
  isnew[at] = founds[at] == ARGV[5 * at - 2] and founds[at] ~= token
  if at == 1 and not isnew[1] and founds[1] ~= token then return reply(0, held) end
end
if (isnew[1] or isnew[2]) and now > tonumber(ARGV[1]) then return {2, clock} end
-- The second key first: a full server must refuse a new one, and it asks for room at the first write alone.
for at = 2, 1, -1 do
  if isnew[at] then
    local base = 5 * at - 3
    write(KEYS[at], founds[at], ARGV[base], ARGV[base + 2], tonumber(ARGV[base + 3]), tonumber(ARGV[base + 4]))
  end
end
if isnew[2] or founds[2] == ARGV[7] then return {1, clock} end
return reply(3, states[2])
"""
)
"""The reply begins with 0 when the first key was not written (then what it holds follows), with 1 when both keys hold
their new tokens, with :data:`LATE`, or with 3 when the first key alone was written (then what the second one holds
follows)."""

LATE: Final = 2
"""The first item of the reply to a write whose deadline is over."""


ASKED: Final = 3
"""How often a write is sent: once to learn the server's time, once more where its clock was set back."""

PAIR_PATIENCE: Final = 0.03
"""Seconds for which a script on two keys waits for a slot that a cluster moves. After that, the keys are written one
after the other: no node executes such a script before both keys have moved."""


class ServerClock:
    """The clock of the server, as its replies tell it."""

    __slots__ = ("_offset_ms",)

    def __init__(self) -> None:
        self._offset_ms: float | None = None
        """The server's clock minus this process's monotonic clock, not more than the true difference."""

    def learn(self, reply: list[Any]) -> None:
        """Take over the clock at the end of a reply that has just come."""
        self._offset_ms = int(reply[-1]) - monotonic() * 1e3

    def now(self) -> float | None:
        """The server's time in Unix seconds; ``None`` before the first reply."""
        return None if self._offset_ms is None else monotonic() + self._offset_ms / 1e3

    def deadline_ms(self, end: float) -> int:
        """When a write that is sent now must have been carried out, by the server's clock in milliseconds.

        Without an earlier reply nobody knows: the server then refuses the write, and tells the time.

        :param end: the end of the time of the write, by :func:`time.monotonic`.
        """
        return 0 if self._offset_ms is None else int(end * 1e3 + self._offset_ms)


def held_in(reply: list[Any]) -> Held | None:
    """What the key holds, as the reply to ``load`` says, or to a write that did not take place."""
    return None if len(reply) < 4 else Held(reply[1].decode(), reply[2], int(reply[3]) / 1e3)


def swap_of(reply: list[Any], token: str, entry: bytes, lease: float) -> Held | None:
    """What the key holds after a ``swap``."""
    return Held(token, entry, lease) if reply[0] == 1 else held_in(reply)


def pair_values(first: Swap, second: Swap, deadline_ms: int) -> list[str | bytes | int]:
    """The keys and arguments of :data:`PAIR`."""
    values: list[str | bytes | int] = [first.key, second.key, deadline_ms]
    for _, expected, token, entry, lease, ttl in (first, second):
        values += token, expected, entry, milliseconds(lease), milliseconds(ttl)
    return values


def pair_of(reply: list[Any], first: Swap, second: Swap) -> tuple[Held | None, Held | None]:
    """What the two keys hold after :data:`PAIR`."""
    if reply[0] == 0:
        return held_in(reply), None
    written = Held(first.token, first.entry, first.lease)
    return written, Held(second.token, second.entry, second.lease) if reply[0] == 1 else held_in(reply)


def too_late() -> TimeoutError:
    """The error of a write that was late each time it was sent."""
    return TimeoutError("the write has arrived too late at the store, which has not carried it out")


def milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1e3))


def glob_of(prefix: str) -> str:
    """A pattern of redis for every key that begins with a prefix."""
    return "".join(f"\\{char}" if char in "*?[]\\^" else char for char in prefix) + "*"
