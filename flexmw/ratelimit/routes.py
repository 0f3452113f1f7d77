"""Rates of a request, by the options ``rates``, ``limit``, ``tokens`` and ``budget``.

>>> rates = UnitRates(("10/minute",), {"/v1/models": "100/minute"})
>>> rates.by_path({"type": "http", "method": "GET", "path": "/v1/models"})[0].limit
100
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from inspect import isawaitable, signature
from typing import Any, Final, cast

import anyio

from flexmw.errors import ConfigError
from flexmw.kit.app_function import finished
from flexmw.kit.asgi import Scope
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.expiring import ExpiringTable
from flexmw.kit.path_patterns import PathPattern
from flexmw.kit.paths import PLAIN, Routing, matched_patterns, remembered
from flexmw.ratelimit.amounts import is_amount
from flexmw.ratelimit.calendar import current
from flexmw.ratelimit.callers import Caller
from flexmw.ratelimit.core import REQUESTS, SECOND, TOKENS
from flexmw.ratelimit.ledger import BALANCE_SECONDS, RESERVATION_SECONDS, BalanceUnknown, Ledger
from flexmw.ratelimit.rates import Rates, budget_rate, credit_rate, parse_rates

__all__ = ["CALENDAR_NEEDS", "TIER_SECONDS", "RequestRates", "UnitRates"]

TIER_SECONDS: Final = 10.0
"""Seconds for which the rates of an async ``limit`` function are kept for a caller. A plain function is called each
time."""

_MAX_TIERS: Final = 262_144
_MAX_PARSED: Final = 4096
_LIMIT_EXPECTED: Final = (
    "a function of the caller (and, if it takes two arguments, of the scope) that returns rates, or a table of rates "
    "by path, such as {'/v1/models': '100/minute', 'POST /v1/videos/*': '2/minute'}"
)


class UnitRates:
    """The rates of a request in one unit: by the application's function, by path, or the same for all.

    :param rates: the rates of requests for which ``limit`` has none.
    :param limit: a function of the caller, or a table of rates by path.
    :param option: the option's name for error messages.
    :param unit: what is counted.
    :param routing: how the wrapped app compares paths.
    :param prefix: separates the counters from those of other limiters in the same store.
    :param is_fixed: windows of the calendar are possible, because the strategy counts fixed windows.
    :raises ConfigError: the rates or the ``limit`` cannot be understood.
    """

    def __init__(
        self,
        rates: Sequence[object],
        limit: object = None,
        *,
        option: str = "RateLimit(limit=...)",
        unit: str = REQUESTS,
        routing: Routing = PLAIN,
        prefix: str = "",
        is_fixed: bool = True,
        clock: Clock = SYSTEM,
    ) -> None:
        self._prefix, self._is_fixed = prefix, is_fixed
        self._monotonic = clock.monotonic
        self._routing = routing
        self._function = limit if callable(limit) else None
        self._option, self._unit = option, unit
        rates_option = "RateLimit(*rates)" if unit == REQUESTS else option
        is_dynamic = self._function is not None
        self._default = (
            parse_rates(list(rates), rates_option, any_limit=is_dynamic, unit=unit, prefix=prefix) if rates else ()
        )
        self._table: dict[PathPattern, Rates] = {}
        if isinstance(limit, Mapping):
            self._table = _table(cast("Mapping[object, object]", limit), option, unit, prefix)
        elif limit is not None and self._function is None:
            raise ConfigError(self._option, limit, _LIMIT_EXPECTED)
        self._patterns = tuple(self._table)
        self.by_path: Callable[[Scope], Rates] = (
            remembered(self._by_path) if self._table else lambda scope: self._default
        )
        """Returns the rates of a request by its path; none if the request is not limited. If frameworks read a path in
        several ways, the request counts in the rates of each reading."""
        self._takes_scope = self._function is not None and _parameters(self._function) > 1
        self._parsed: dict[Any, Rates] = {}
        self._tiers: ExpiringTable[tuple[int, Rates]] = ExpiringTable(
            int(TIER_SECONDS * SECOND), max_entries=_MAX_TIERS, shards=64
        )

    @property
    def known(self) -> Rates:
        """All rates that are known before the first request."""
        return self._default + tuple(rate for rates in self._table.values() for rate in rates)

    @property
    def is_dynamic(self) -> bool:
        """Whether the rates come from a function of the application."""
        return self._function is not None

    def _by_path(self, scope: Scope) -> Rates:
        patterns = matched_patterns(self._patterns, scope, self._routing)
        if len(patterns) == 1 and patterns[0] is not None:
            return self._table[patterns[0]]
        if not patterns:
            return self._default
        rates = [self._default if pattern is None else self._table[pattern] for pattern in patterns]
        return tuple(dict.fromkeys(rate for pattern_rates in rates for rate in pattern_rates))

    async def of(self, caller: Caller, scope: Scope) -> Rates:
        """Return the rates of a request; none if the request is not limited.

        :raises ConfigError: the application's function returns something that is not a rate.
        """
        if self._function is None:
            return self.by_path(scope)
        now_us = int(self._monotonic() * SECOND)
        tier = self._tiers.get(caller.digest, now_us)
        if tier is not None and now_us < tier[0]:
            return tier[1]
        value = self._function(caller, scope) if self._takes_scope else self._function(caller)
        if not isawaitable(value):
            return self._parse(value)
        rates = self._parse(await finished(value, self._option))
        self._tiers.put(caller.digest, (now_us + int(TIER_SECONDS * SECOND), rates), now_us)
        return rates

    def _parse(self, value: Any) -> Rates:
        if value is None:
            return self._default
        key: Any = tuple(cast("Sequence[object]", value)) if isinstance(value, list) else value
        rates = self._parsed.get(key)
        if rates is None:
            rates = parse_rates(
                cast("object", value), self._option, any_limit=True, unit=self._unit, prefix=self._prefix
            )
            if not self._is_fixed and any(rate.period for rate in rates):
                raise ConfigError(self._option, value, f"strategy='fixed-window' for it: {CALENDAR_NEEDS}")
            if len(self._parsed) < _MAX_PARSED:
                self._parsed[key] = rates
        return rates


CALENDAR_NEEDS: Final = "windows of the calendar, and budgets, begin and end at moments that are given"


class RequestRates:
    """The rates of a request in all units: requests or another unit, tokens, and a budget.

    :param rates: the option ``rates``.
    :param limit: the option ``limit``.
    :param tokens: the option ``tokens``; ``None`` if no tokens are counted.
    :param unit: the option ``unit``: what ``rates``, ``limit`` and ``budget`` count.
    :param budget: the option ``budget``; ``None`` if there is no budget.
    :param is_fixed: the strategy counts fixed windows.
    :param routing: how the wrapped app compares paths.
    :param prefix: separates the counters from those of other limiters in the same store.
    :raises ConfigError: the rates cannot be understood.
    """

    def __init__(
        self,
        rates: Sequence[object],
        limit: object = None,
        tokens: Any = None,
        *,
        unit: str = REQUESTS,
        budget: Any = None,
        is_fixed: bool = True,
        routing: Routing = PLAIN,
        prefix: str = "",
        clock: Clock = SYSTEM,
    ) -> None:
        unit_rates = partial(UnitRates, routing=routing, prefix=prefix, is_fixed=is_fixed, clock=clock)
        self._units = [unit_rates(rates, limit, unit=unit)]
        tokens_vary = callable(tokens) or isinstance(tokens, Mapping)
        if tokens is not None:
            given = () if tokens_vary else tokens if isinstance(tokens, (list, tuple)) else (tokens,)
            token_limit = tokens if tokens_vary else None
            self._units.append(unit_rates(given, token_limit, option="RateLimit(tokens=...)", unit=TOKENS))
        self.known: Rates = tuple(rate for unit in self._units for rate in unit.known)
        """All rates that are known before the first request."""
        self.ledger: Ledger | None = budget if isinstance(budget, Ledger) else None
        """The accounts of the application, if ``budget`` is a ``Ledger``."""
        self._budget: Any = budget if self.ledger is None else self.ledger.balance
        self._unit, self._prefix, self._now = unit, prefix, clock.now
        if budget is not None and not callable(self._budget):
            self.known += (budget_rate(self._budget, unit, prefix),)
        has_functions = any(unit_rate.is_dynamic for unit_rate in self._units)
        self.is_dynamic = has_functions or callable(self._budget)
        """Whether some rates come from a function of the application."""
        self._may_be_calendar = is_fixed and (
            has_functions or any(rate.ends_at_us or rate.period for rate in self.known)
        )
        self._current: dict[Rates, tuple[float, Rates]] = {}
        is_static = limit is None and not tokens_vary and not callable(self._budget)
        self.static: Rates = self.known if is_static and not self._may_be_calendar else ()
        """The rates of all requests, if they are the same for all."""

    def by_path(self, scope: Scope) -> Rates:
        """Return the rates of a request by its path; none if the request is not limited."""
        rates: Rates = ()
        for unit in self._units:
            rates += unit.by_path(scope)
        if self._budget is not None:
            rates += (budget_rate(self._budget, self._unit, self._prefix),)
        return self._in_period(rates) if self._may_be_calendar else rates

    async def of(self, caller: Caller, scope: Scope) -> Rates:
        """Return the rates of a request; none if the request is not limited.

        :raises ConfigError: the application's function returns something that is not a rate.
        :raises BalanceUnknown: the caller's credit is not known in time.
        """
        if self.static:
            return self.static
        rates: Rates = ()
        for unit in self._units:
            rates += await unit.of(caller, scope)
        if self._budget is not None:
            rates += await self._budget_of(caller)
        return self._in_period(rates) if self._may_be_calendar else rates

    async def _budget_of(self, caller: Caller) -> Rates:
        amount: Any = self._budget
        if callable(amount):
            value: Any = amount(caller)
            if isawaitable(value):
                with anyio.move_on_after(BALANCE_SECONDS) as limit:
                    value = await value
                if limit.cancelled_caught:
                    raise BalanceUnknown
            amount = value
            if amount is None:
                return ()
            if self.ledger is not None and isinstance(amount, (int, float, Decimal)):
                amount = max(0, amount)  # the last requests before the credit ran out have used more than was left
            if not is_amount(amount):
                raise ConfigError(
                    "RateLimit(budget=...)", amount, "the function to return a number, at least 0, or None"
                )
        if self.ledger is not None:
            return (credit_rate(amount, self._unit, self._prefix, RESERVATION_SECONDS),)
        return (budget_rate(amount, self._unit, self._prefix),)

    def _in_period(self, rates: Rates) -> Rates:
        """Return the rates; a window of the calendar gets the counters of the current period."""
        if not any(rate.period for rate in rates):
            return rates
        now = self._now()
        ends_at, in_period = self._current.get(rates, (0.0, rates))
        if now >= ends_at:
            in_period = tuple(current(rate, now) for rate in rates)
            ends_at = min((rate.ends_at_us for rate in in_period if rate.ends_at_us), default=0) / SECOND
            if len(self._current) >= _MAX_PARSED:
                self._current.clear()
            self._current[rates] = ends_at, in_period
        return in_period


def _parameters(function: Callable[..., Any]) -> int:
    """The number of positional parameters; 1 if it is unknown."""
    try:
        parameters = signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    return sum(
        parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD) for parameter in parameters
    )


def _table(table: Mapping[object, object], option: str, unit: str, prefix: str) -> dict[PathPattern, Rates]:
    """Parse a table of rates by path, and put the most specific pattern first.

    :raises ConfigError: no request can match a pattern, or two patterns match the same requests.
    """
    rates: dict[PathPattern, Rates] = {}
    shapes: dict[object, object] = {}
    for text, value in table.items():
        pattern = PathPattern(text, option)
        if pattern.shape in shapes:
            raise ConfigError(option, text, f"one entry for these requests; {shapes[pattern.shape]!r} is another")
        shapes[pattern.shape] = text
        rates[pattern] = parse_rates(value, f"{option}[{text!r}]", group=pattern.name, unit=unit, prefix=prefix)
    return dict(sorted(rates.items(), key=lambda entry: entry[0].specificity, reverse=True))
