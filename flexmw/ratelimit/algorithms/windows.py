"""Decide over several windows with one algorithm: all of them admit the request, or nothing is taken.

>>> from flexmw.ratelimit.algorithms import ALGORITHMS
>>> from flexmw.ratelimit.rates import parse_rates
>>> rates = parse_rates("5/minute") + parse_rates("100/minute", unit="tokens")
>>> algorithm = ALGORITHMS["fixed-window"]
>>> admitted, states = admit(algorithm, rates, [None, None], 0, (1, 80))
>>> result = result_of(algorithm, rates, states, 0, (1, 80), admitted)
>>> [(unit.rate.name, unit.remaining) for unit in (result, *result.others)]
[('100 tokens/minute', 20), ('5/minute', 4)]
>>> admit(algorithm, rates, states, 0, (1, 30))[0]
False
"""

from __future__ import annotations

from collections.abc import Sequence

from flexmw.ratelimit.algorithms.base import Algorithm, State
from flexmw.ratelimit.core import LimitResult, Rate, combine

__all__ = ["admit", "result_of"]


def admit(
    algorithm: Algorithm,
    rates: Sequence[Rate],
    states: Sequence[State],
    now_us: int,
    costs: Sequence[int],
    *,
    take: bool = True,
) -> tuple[bool, Sequence[State]]:
    """Check every window, then take from all of them or from none. Returns whether the request is admitted, and the
    states afterwards.

    :param take: ``False`` only looks.
    """
    for rate, state, amount in zip(rates, states, costs, strict=True):
        if algorithm.wait(state, now_us, rate, amount):
            return False, states
    if not take:
        return True, states
    return True, [
        algorithm.take(state, now_us, rate, amount) if amount else state
        for rate, state, amount in zip(rates, states, costs, strict=True)
    ]


def result_of(
    algorithm: Algorithm,
    rates: Sequence[Rate],
    states: Sequence[State],
    now_us: int,
    costs: Sequence[int],
    admitted: bool,
) -> LimitResult:
    """The result for a caller, from the states as :func:`admit` or a server left them."""
    if len(rates) == 1 and admitted:
        rate, state = rates[0], states[0]
        return LimitResult(rate, algorithm.remaining(state, now_us, rate), 0, algorithm.reset(state, now_us, rate))
    results: list[LimitResult] = []
    for rate, state, amount in zip(rates, states, costs, strict=True):
        wait_us = 0 if admitted else algorithm.wait(state, now_us, rate, amount)
        reset_us = wait_us or algorithm.reset(state, now_us, rate)
        results.append(LimitResult(rate, algorithm.remaining(state, now_us, rate), wait_us, reset_us))
    result = combine(results)
    if not admitted and not result.wait_us:
        # A server refused by its own clock, which rounds differently: by the numbers in its reply the request fits.
        return result._replace(wait_us=1, reset_us=1)
    return result
