"""The cost of a request: the amount reserved before the request is served, and the amount that it has used.

>>> from flexmw.ratelimit import settle
>>> settle(812)
Traceback (most recent call last):
    ...
flexmw.errors.ConfigError: settle(used) = 812: expected a request inside RateLimit(tokens=...) or \
RateLimit(cost=<a function>), which reserves an estimate
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import compress
from typing import Any, Final, NamedTuple, TypeAlias

from flexmw.errors import ConfigError
from flexmw.kit.app_function import finished
from flexmw.kit.asgi import Receive, Scope
from flexmw.kit.log_limit import LogLimit
from flexmw.ratelimit.amounts import Amount, is_amount, whole_amount
from flexmw.ratelimit.core import REQUESTS, TOKENS, Rate
from flexmw.ratelimit.rates import Rates
from flexmw.ratelimit.request_body import read_body
from flexmw.ratelimit.usage import Usage, UsageReader
from flexmw.ratelimit.usage_estimate import fields_of

__all__ = ["Charge", "CostOption", "Price", "Pricing", "Reservation", "TokenCostOption", "settle"]

CostOption: TypeAlias = Amount | str | Callable[[Scope], Amount | Awaitable[Amount]] | None
"""A fixed cost, a function that estimates the cost of a request, or the name of a reader of usage that does."""

TokenCostOption: TypeAlias = int | str | Callable[[Scope], int | Awaitable[int]]
"""The same in tokens."""

Price: TypeAlias = Callable[[str, Usage], Amount]
"""What usage of a model costs, in the unit of the limiter. The model's name is empty where nothing names it."""


def _is_cost(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_WHOLE: Final = _is_cost, "a whole number, at least 0"
_DECIMAL: Final = is_amount, "a number, at least 0"
_TOKEN_OPTION: Final = "RateLimit(token_cost=...)"  # noqa: S105 - tokens of a language model


class Charge(NamedTuple):
    """What a request is charged when it is admitted.

    :param costs: the cost in each rate.
    :param settled: the rates that are corrected when the real use is known; ``None`` if the cost is fixed.
    :param reserved: the cost in each of ``settled``.
    :param expected: the same without the smallest amount, which a request without a cost reserves.
    :param estimate: the usage that a reader expects by the body of the request; ``None`` where none was asked.
    :param receive: the ``receive`` that gives the body which was read to the app; ``None`` where none was read.
    """

    costs: tuple[int, ...]
    settled: Rates | None = None
    reserved: tuple[int, ...] = ()
    expected: tuple[int, ...] = ()
    estimate: Usage | None = None
    receive: Receive | None = None


class Pricing:
    """The options ``cost``, ``token_cost``, ``usage``, ``unit`` and ``price``.

    :param cost: the cost in rates that are not of tokens; ``None`` is 1 request, and nothing of another unit.
    :param token_cost: the cost in rates of tokens; ``None`` if no tokens are counted.
    :param unit: the unit of the rates that are not of tokens.
    :param price: what usage costs in that unit; ``None`` where it does not depend on usage.
    :param reader: reads the usage of responses; ``None`` where nobody does.
    :param estimators: readers that estimate the usage of requests, by the names in ``cost`` and ``token_cost``.
    """

    def __init__(
        self,
        cost: CostOption = None,
        token_cost: TokenCostOption | None = None,
        *,
        unit: str = REQUESTS,
        price: Price | None = None,
        reader: UsageReader | None = None,
        estimators: Mapping[str, UsageReader] | None = None,
    ) -> None:
        self.unit, self.reader = unit, reader
        self._token_cost, self._price = token_cost, price
        self._estimators = estimators or {}
        self._cost = (1 if unit == REQUESTS else 0) if cost is None else cost
        is_fixed = token_cost is None and unit == REQUESTS
        self.fixed_cost: int | None = self._cost if is_fixed and isinstance(self._cost, int) else None
        """The cost in every rate, if it is the same for every request and never settled."""

    async def charge(self, scope: Scope, rates: Rates, receive: Receive | None = None) -> Charge:
        """The charge of a request under its rates.

        :param receive: the ``receive`` of the request, whose body is read where a reader estimates; ``None``: the body
            is not known.
        :raises ConfigError: when a function of the application does not return a whole number, at least 0.
        """
        if self.fixed_cost is not None:
            return Charge((self.fixed_cost,) * len(rates))
        estimate: Usage | None = None
        name = next((cost for cost in (self._token_cost, self._cost) if isinstance(cost, str)), None)
        if name is not None:
            body, is_whole, receive = (b"", True, None) if receive is None else await read_body(scope, receive)
            estimate = self._estimators[name].estimate(fields_of(body, is_whole=is_whole), scope.get("path", ""))
        else:
            receive = None
        by_unit: dict[str, int] = {}
        for rate in rates:
            if rate.unit not in by_unit:
                by_unit[rate.unit] = await self._cost_of(rate, scope, estimate)
        # A guess must not make a request impossible: one above a limit waits for the whole window.
        expected = tuple(by_unit[rate.unit] if name is None else min(by_unit[rate.unit], rate.limit) for rate in rates)
        # A request that reserves nothing would pass a limit that is used up to the last millionth.
        costs = tuple(cost if rate.scale == 1 else max(1, cost) for rate, cost in zip(rates, expected, strict=True))
        is_settled = [self._token_cost is None or self.unit != REQUESTS or rate.unit == TOKENS for rate in rates]
        return Charge(
            costs,
            tuple(compress(rates, is_settled)),
            tuple(compress(costs, is_settled)),
            tuple(compress(expected, is_settled)),
            estimate,
            receive,
        )

    def used(self, rate: Rate, usage: Usage) -> int | None:
        """What usage costs in a rate; ``None`` where it does not depend on usage.

        :raises ConfigError: when the function ``price`` does not return an amount.
        """
        if rate.unit == TOKENS:
            return usage.total_tokens
        if self._price is None:
            return None
        amount: Any = self._price(usage.model, usage)
        if not is_amount(amount):
            raise ConfigError("RateLimit(price=...)", amount, "the function to return a number, at least 0")
        return whole_amount(amount, rate.scale)

    async def _cost_of(self, rate: Rate, scope: Scope, estimate: Usage | None) -> int:
        is_tokens = rate.unit == TOKENS and self._token_cost is not None
        cost: Any = self._token_cost if is_tokens else self._cost
        if isinstance(cost, str):
            cost = 0 if estimate is None else self.used(rate, estimate) or 0
        else:
            if callable(cost):
                option = _TOKEN_OPTION if is_tokens else "RateLimit(cost=...)"
                cost = await finished(cost(scope), option)
                is_valid, expected = _WHOLE if rate.scale == 1 else _DECIMAL
                if not is_valid(cost):
                    raise ConfigError(option, cost, f"the function to return {expected}")
            cost = whole_amount(cost, rate.scale)
        return int(cost)


class Reservation:
    """What one request has reserved, until its real use is known.

    :param units: the units that can be settled, each with the number that stands for one of it in the store.
    :ivar amounts: what the application has reported, by unit, in the store's numbers.
    :ivar usage: the usage that the application has reported.
    :ivar is_over: the app has returned, and nothing that is reported counts any more.
    """

    __slots__ = ("amounts", "is_over", "units", "usage")

    def __init__(self, units: Mapping[str, int]) -> None:
        self.units = units
        self.amounts: dict[str, int] = {}
        self.usage: Usage | None = None
        self.is_over = False

    @contextmanager
    def active(self) -> Generator[None]:
        """Let :func:`settle` find the reservation in this context."""
        token = _reservations.set((*_reservations.get(), self))
        try:
            yield
        finally:
            self.is_over = True
            _reservations.reset(token)


_reservations: ContextVar[tuple[Reservation, ...]] = ContextVar("flexmw.ratelimit.cost", default=())
_DEFAULT_UNITS: Final = (TOKENS, REQUESTS)
_log: Final = logging.getLogger("flexmw.ratelimit")
_late_reports: Final = LogLimit(burst=5, per_second=1 / 60, monotonic=time.monotonic)


def settle(used: Amount | Usage, *, unit: str | None = None) -> None:
    """Report what the current request really used. The difference to what was reserved is given back, or charged, when
    the response is complete. Of several calls the last one counts. A call from a task that has outlived its request
    changes nothing, and is logged as a WARNING.

    :param used: tokens inside ``RateLimit(tokens=...)``, else the cost inside ``RateLimit(cost=<a function>)``; an
        amount of ``unit``; or a :class:`Usage`, which every limiter around the request takes.
    :param unit: the unit of another ``RateLimit(unit=...)``, such as ``usd``.
    :raises ConfigError: for a number below 0, and where no request with an estimate is being served.
    """
    reservations = _reservations.get()
    if isinstance(used, Usage):
        matching = list(reservations)
        for reservation in matching:
            reservation.usage = used
    else:
        is_valid, expected = _WHOLE if unit is None or unit in _DEFAULT_UNITS else _DECIMAL
        if not is_valid(used):
            raise ConfigError("settle(used)", used, expected)
        names = _DEFAULT_UNITS if unit is None else (unit,)
        matching = [reservation for reservation in reservations if any(name in reservation.units for name in names)]
        for reservation in matching:
            name = next(name for name in names if name in reservation.units)
            reservation.amounts[name] = whole_amount(used, reservation.units[name])
    if matching and all(reservation.is_over for reservation in matching):
        _warn_of_late_report()
    if not matching:
        where = "RateLimit(tokens=...) or RateLimit(cost=<a function>)" if unit is None else f"RateLimit(unit={unit!r})"
        raise ConfigError("settle(used)", used, f"a request inside {where}, which reserves an estimate")


def _warn_of_late_report() -> None:
    if (left_out := _late_reports.admit()) is not None:
        _log.warning(
            "settle(used) was called after the request had ended, by a task that the app has left behind: it changes "
            "nothing, and the charge of the request stands. Call it before the app returns.%s",
            left_out,
        )
