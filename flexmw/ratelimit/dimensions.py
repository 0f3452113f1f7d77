"""All that is counted of a request: requests, and tokens beside them.

>>> from flexmw.ratelimit import RateLimit
>>> both = Dimensions(RateLimit("60/minute", tokens="100000/minute", token_cost=500))
>>> [(rate.name, rate.unit) for rate in both.static]
[('60/minute', 'requests'), ('100000 tokens/minute', 'tokens')]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from flexmw.kit.asgi import Scope
from flexmw.ratelimit.callers import Caller
from flexmw.ratelimit.core import TOKENS, Cost, Rate
from flexmw.ratelimit.cost import estimate
from flexmw.ratelimit.routes import Rates, Rules

if TYPE_CHECKING:
    from flexmw.ratelimit.component import RateLimit

__all__ = ["Bill", "Dimensions"]


class Bill(NamedTuple):
    """What one request is charged: ``cost`` by rate. ``reserved`` is the estimate, and ``settled`` the rates in which
    it is corrected; ``None`` where nothing is."""

    cost: Cost
    reserved: int = 0
    settled: Rates | None = None


class Dimensions:
    """The rates of a request in every unit, and what it counts in each."""

    def __init__(self, options: RateLimit) -> None:
        self._cost, self._token_cost = options.cost, options.token_cost
        self._rules = [Rules(options.rates, options.limit, clock=options.clock)]
        dynamic = options.limit
        tokens: Any = options.tokens
        if tokens is not None:
            depends = callable(tokens) or isinstance(tokens, Mapping)
            given = () if depends else tokens if isinstance(tokens, (list, tuple)) else (tokens,)
            limit, dynamic = (tokens, tokens) if depends else (None, dynamic)
            self._rules.append(Rules(given, limit, option="RateLimit(tokens=...)", unit=TOKENS, clock=options.clock))
        self.known: Rates = tuple(rate for rules in self._rules for rate in rules.known)
        self.static: Rates = self.known if dynamic is None else ()
        self.asks = any(rules.asks for rules in self._rules)
        self.settles = tokens is not None
        """Whether tokens are counted."""

    def fixed(self, scope: Scope) -> Rates:
        """The rates of a request by its path; none means that it is not limited."""
        first, *others = self._rules
        rates = first.fixed(scope)
        for rules in others:
            rates += rules.fixed(scope)
        return rates

    async def of(self, caller: Caller, scope: Scope) -> Rates:
        """The rates of a caller.

        :raises ConfigError: when the host's function returns what is no rate.
        """
        rates: Rates = ()
        for rules in self._rules:
            rates += await rules.of(caller, scope) if rules.asks else rules.fixed(scope)
        return rates

    async def bill(self, scope: Scope, rates: Sequence[Rate]) -> Bill:
        """Ask for the estimates.

        :raises ConfigError: when one is no whole number.
        """
        cost, settled = self._cost, None
        requests = cost if isinstance(cost, int) else await estimate(cost(scope), "RateLimit(cost=...)")
        if not self.settles:
            settled = None if isinstance(cost, int) else tuple(rates)
            return Bill(requests, requests, settled)
        given = self._token_cost
        tokens = given if isinstance(given, int) else await estimate(given(scope), "RateLimit(token_cost=...)")
        costs = tuple(tokens if rate.unit == TOKENS else requests for rate in rates)
        return Bill(costs, tokens, tuple(rate for rate in rates if rate.unit == TOKENS))
