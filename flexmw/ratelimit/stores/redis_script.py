"""The Redis scripts: one command for a decision over all windows, slots and earlier digests of a caller.

The counters of every algorithm but ``gcra`` are those of ``limits``, under its keys and in its format, so its own
strategies read and write the same ones. Unlike the scripts of ``limits``, these take nothing from any window when one
window refuses, return the state with the decision, and use the server's clock throughout.

``KEYS``

===================== =============================================================================================
first                 The keys of each rate (one or two, as the algorithm needs), in the order of the rates
then, with a slot     The key of the caller's slots: a sorted set of holders by the moment at which their lease ends
then, for each        The same keys again, for each digest that the caller had under an earlier pepper
earlier digest
===================== =============================================================================================

``ARGV``

===================== =============================================================================================
``ARGV[1]``           ``n > 0``: check ``n`` equal requests and take those that fit. ``0``: check one, take nothing.
                      ``-1 - age``: refund, without a check, what was taken ``age`` milliseconds ago
``ARGV[3*i-1]``       Cost of a request in rate ``i``; a negative cost of a refund is charged
``ARGV[3*i]``         Limit of rate ``i``
``ARGV[3*i+1]``       Window of rate ``i`` in milliseconds; of a calendar window its end, negative, in Unix milliseconds
last three, with a    How many slots the caller has; the lease in milliseconds; the holder
slot
===================== =============================================================================================

Reply

===================== =============================================================================================
first                 How many of the requests are admitted; ``-1``: no slot was free
then                  The state of each rate afterwards; its algorithm's module describes the items
last, with a slot     How many slots are taken afterwards
===================== =============================================================================================
"""

from __future__ import annotations

from functools import cache
from typing import Final

from flexmw.kit.redis_script import Script, script
from flexmw.ratelimit.algorithms import Algorithm

__all__ = ["RENEW", "decision_script"]


_START: Final = """
local mode, reply = tonumber(ARGV[1]), {}
local checking, taking, admitted, rates = mode >= 0, mode ~= 0, math.max(mode, 1), (#ARGV - 1) / 3
local requested, age_ms = admitted, -1 - mode
"""

_SLOT_START: Final = """
rates = rates - 1
local clock = redis.call('TIME')
local instant = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local slots, lease, holder = tonumber(ARGV[#ARGV-2]), tonumber(ARGV[#ARGV-1]), ARGV[#ARGV]
local held = 0
"""

# The counters of an earlier digest are renamed to the current one, with their time to live, before anything is read.
# If both exist, a process with the old pepper still counts under the old digest: the old counters are left to expire.
# `width` is the number of keys of one rate, `block` the number of keys of one digest.
_MOVE: Final = """
for from = block, #KEYS - block, block do
  for last = width, rates * width, width do
    if redis.call('EXISTS', KEYS[last]) == 0 and redis.call('EXISTS', KEYS[from+last]) == 1 then
      for at = last - width + 1, last do
        if redis.call('EXISTS', KEYS[from+at]) == 1 then redis.call('RENAME', KEYS[from+at], KEYS[at]) end
      end
    end
  end
end
"""

# The slots of a process that died are free when their lease ends by the server's clock.
_SLOT_CHECK: Final = """
for at = block, #KEYS, block do
  redis.call('ZREMRANGEBYSCORE', KEYS[at], '-inf', instant)
  held = held + redis.call('ZCARD', KEYS[at])
end
if admitted > 0 and held >= slots then admitted = -1 end
"""

_SLOT_TAKE: Final = """
if admitted > 0 and taking then
  redis.call('ZADD', KEYS[block], instant + lease, holder)
  if redis.call('PTTL', KEYS[block]) < lease then redis.call('PEXPIRE', KEYS[block], lease) end
  held = held + 1
end
table.insert(reply, held)
"""

RENEW: Final = script("""
if not ARGV[3] and not redis.call('ZSCORE', KEYS[1], ARGV[2]) then return 0 end
local clock, lease = redis.call('TIME'), tonumber(ARGV[1])
redis.call('ZADD', KEYS[1], tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000) + lease, ARGV[2])
if redis.call('PTTL', KEYS[1]) < lease then redis.call('PEXPIRE', KEYS[1], lease) end
return 1
""")
"""Renew the lease of a slot. ``KEYS[1]``: the slots; ``ARGV``: the lease in milliseconds, the holder. The reply is 0
for a slot that is free: it was given back, or the server has lost it. With a third argument it is taken again."""


@cache
def decision_script(algorithm: Algorithm, *, slots: bool = False, moves: bool = False) -> Script:
    """The script of an algorithm.

    :param slots: whether it also takes a slot.
    :param moves: whether the caller has earlier digests.
    """
    code, width = algorithm.redis, len(algorithm.redis.keys(""))
    fragments = [_START, _SLOT_START if slots else ""]
    if slots or moves:
        fragments.append(f"local width, block = {width}, rates * {width} + {int(slots)}\n")
    fragments += [
        _MOVE if moves else "",
        code.read,
        _SLOT_CHECK if slots else "",
        "reply[1] = admitted\n",
        code.take,
        _SLOT_TAKE if slots else "",
        "return reply\n",
    ]
    return script("".join(fragments))
