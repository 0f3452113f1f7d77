"""What a rate limit decides: all windows of all units together, and a place among those at once. Pure.

Every time in here is an int of microseconds; what a state is only its algorithm knows.

>>> requests, tokens = rates_of("5/minute"), rates_of("100/minute", unit="tokens")
>>> rates, strategy = requests + tokens, STRATEGIES["fixed-window"]
>>> admitted, states = admit(strategy, rates, [None, None], 0, (1, 80))
>>> said = verdict(strategy, rates, states, 0, (1, 80), admitted)
>>> [(each.rate.name, each.remaining) for each in (said, *said.others)]
[('100 tokens/minute', 20), ('5/minute', 4)]
>>> admit(strategy, rates, states, 0, (1, 30))[0]
False
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from flexmw.ratelimit.strategies import STRATEGIES, Log, State, Strategy
from flexmw.ratelimit.values import REQUESTS, SECOND, TOKENS, Decision, Rate, Slot, Verdict, rates_of

__all__ = [
    "REQUESTS",
    "SECOND",
    "STRATEGIES",
    "TOKENS",
    "Cost",
    "Decision",
    "Log",
    "Rate",
    "Slot",
    "Strategy",
    "Verdict",
    "admit",
    "costs_of",
    "rates_of",
    "seat",
    "verdict",
]

Cost: TypeAlias = int | Sequence[int]
"""What a request counts: the same in every rate, or one number for each."""


def costs_of(rates: Sequence[Rate], cost: Cost) -> Sequence[int]:
    """One number for each rate."""
    return (cost,) * len(rates) if isinstance(cost, int) else cost


def admit(
    strategy: Strategy, rates: Sequence[Rate], states: Sequence[State], now: int, cost: Cost, *, take: bool = True
) -> tuple[bool, Sequence[State]]:
    """Check all windows, then take from all of them or from none: what is refused consumes nothing."""
    costs = costs_of(rates, cost)
    for rate, state, each in zip(rates, states, costs, strict=True):
        if strategy.wait(state, now, rate, each):
            return False, states
    if not take:
        return True, states
    return True, [
        strategy.take(state, now, rate, each) if each else state
        for rate, state, each in zip(rates, states, costs, strict=True)
    ]


def verdict(
    strategy: Strategy, rates: Sequence[Rate], states: Sequence[State], now: int, cost: Cost, admitted: bool
) -> Verdict:
    """What to say, from the states as :func:`admit` left them: of each unit the window that denies for longest, else
    the tightest; of the units the one of which the same is true speaks first."""
    if len(rates) == 1 and admitted:
        rate, state = rates[0], states[0]
        return Verdict(rate, strategy.remaining(state, now, rate), 0, strategy.reset(state, now, rate))
    by_unit: dict[str, Verdict] = {}
    for rate, state, each in zip(rates, states, costs_of(rates, cost), strict=True):
        wait = 0 if admitted else strategy.wait(state, now, rate, each)
        one = Verdict(rate, strategy.remaining(state, now, rate), wait, wait or strategy.reset(state, now, rate))
        held = by_unit.get(rate.unit)
        if held is None or _urgency(one) < _urgency(held):
            by_unit[rate.unit] = one
    first, *others = sorted(by_unit.values(), key=_urgency)
    if not admitted and not first.wait:  # the store, whose clock has other units, said no
        first = first._replace(wait=1, reset=1)
    return first._replace(others=tuple(others)) if others else first


def _urgency(each: Verdict) -> tuple[int, float, int]:
    return -each.wait, each.remaining / each.rate.limit, -each.reset


def seat(slot: Slot, held: int, full: bool, found: Verdict | None) -> Verdict:
    """What to say where a slot is asked for too.

    :param held: how many slots are taken after the decision. :param full: none was free.
    :param found: what the rates say; ``None`` where there are none. Their refusal goes first.

    Nobody knows when a slot comes free, so the wait is a second: the least that ``Retry-After`` can say.
    """
    if found is not None and (found.wait or not full):
        return found
    if not full:
        return Verdict(slot.rate, slot.most - held, 0, 0)
    others = () if found is None else (found._replace(others=()), *found.others)
    return Verdict(slot.rate, 0, SECOND, SECOND, others)
