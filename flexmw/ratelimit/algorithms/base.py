"""What an algorithm consists of: pure functions for memory, and Lua for Redis and Valkey.

The Lua of an algorithm is two fragments. ``flexmw.ratelimit.stores.redis_script`` puts them into one script: it parses
``KEYS`` and ``ARGV`` before them, checks the caller's slots between them and returns ``reply`` after them. The
fragments can use these local variables:

============= ======================================================================================================
``rates``     Number of rates. Rate ``i`` has cost ``ARGV[3*i-1]``, limit ``ARGV[3*i]``, window in ms ``ARGV[3*i+1]``
``checking``  ``true`` for a check, with or without taking; ``false`` for a refund, which is never refused
``taking``    ``false`` when the command only looks
``requested`` Number of equal requests that the command checks, at least 1
``admitted``  Number of those that fit; the ``read`` fragment lowers it, the ``take`` fragment takes for so many
``age_ms``    For a refund: milliseconds since the cost was taken
``reply``     The table that the command returns. ``reply[1]`` is ``admitted``; the fragments fill in what follows
============= ======================================================================================================

A refund never reaches into a newer window than the one that the cost was taken from: what left with its window is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from flexmw.ratelimit.core import Rate

__all__ = ["PREFIX", "Algorithm", "RedisScript", "Refund", "State", "States", "one_key", "within_limit"]

State: TypeAlias = Any
"""One caller's state under one rate. Only its own algorithm knows the type; ``None`` means: never seen."""

States: TypeAlias = Any
"""The states of some callers in memory: an array of words, or a dict."""

PREFIX: Final = "LIMITS:"
"""The first part of every Redis key: the one that ``limits`` uses."""


class Refund(Protocol):
    """The type of :attr:`Algorithm.refund`."""

    def __call__(self, state: State, now_us: int, rate: Rate, cost: int, age_us: int = 0, /) -> State: ...


class RedisScript(NamedTuple):
    """An algorithm on a Redis server.

    :param read: Lua that reads the state of every rate into ``reply`` and lowers ``admitted`` to what fits.
    :param take: Lua that writes the new states and puts them into ``reply``; runs after the slots were checked.
    :param keys: the Redis keys of one rate, from the key that ``limits`` gives it. All algorithms of one deployment
        may share a server, so the key contains the strategy's name.
    :param states: the states, at moment 0, from the items of ``reply`` after the first. The last argument is the cost
        that the same command took for later requests of the batch; it is subtracted.
    :param empty: Lua that makes the key ``KEYS[1]`` with a state without requests, for ``ARGV[1]`` milliseconds, where
        there is no key. Only a cluster that moves the key's slot needs it; see ``stores/redis.py``.
    """

    read: str
    take: str
    keys: Callable[[str], tuple[str, ...]]
    states: Callable[[Sequence[Any], Sequence[Rate], int], list[State]]
    empty: str = "redis.call('SET', KEYS[1], 0, 'PX', ARGV[1], 'NX')"


class Algorithm(NamedTuple):
    """One rate-limiting algorithm. State, moment in microseconds, rate and cost go in. Every function but ``hit`` is
    pure.

    :param name: the name that ``RateLimit(strategy=...)`` takes.
    :param wait: microseconds after which ``cost`` would be admitted; 0 if it is admitted now.
    :param take: the state after ``cost`` was admitted.
    :param refund: the state after ``cost`` was given back ``age_us`` after it was taken. A negative cost is charged
        without a check.
    :param remaining: how much is left of the limit.
    :param reset: microseconds until the window ends.
    :param hit: check and take in one call, in place, for the memory store. ``hit(states, index, now_us, rate, cost)``
        changes the state at ``index`` if it admits the cost, and gives wait, remaining and reset afterwards. A test
        holds it equal to the four functions above.
    :param lifetime_windows: after how many windows without use a state means nothing any more.
    :param redis: the same algorithm in Lua.
    :param in_words: a state is three whole numbers: the end of a window, what was taken in it, and what was taken in
        the window before it and still counts, by the part of the window that is left. Memory keeps such states in an
        array (:class:`~flexmw.kit.counters.CounterTable`), where the end 0 means ``None``; it keeps others in a dict.
    """

    name: str
    wait: Callable[[State, int, Rate, int], int]
    take: Callable[[State, int, Rate, int], State]
    refund: Refund
    remaining: Callable[[State, int, Rate], int]
    reset: Callable[[State, int, Rate], int]
    hit: Callable[[States, Any, int, Rate, int], tuple[int, int, int]]
    lifetime_windows: int
    redis: RedisScript
    in_words: bool = False


def one_key(key: str) -> tuple[str, ...]:
    """The Redis key of an algorithm that keeps one value per rate."""
    return (PREFIX + key,)


def within_limit(used: str) -> str:
    """Lua that lowers ``admitted`` to the requests that fit into rate ``i``.

    The text is inserted where it is needed, inside the loop over the rates, because a Lua function call costs more than
    the check itself.

    :param used: a Lua expression: how much of the limit is used.
    """
    return f"""\
  if checking then
    local used, cost, limit = {used}, tonumber(ARGV[3*i-1]), tonumber(ARGV[3*i])
    if used + cost > limit then
      admitted = 0
    elseif admitted > 1 then
      admitted = math.min(admitted, math.floor((limit - used) / cost))
    end
  end
"""
