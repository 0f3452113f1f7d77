"""What a request costs: an estimate before it is served, and what it really used.

>>> from flexmw.ratelimit import settle
>>> settle(812)
Traceback (most recent call last):
    ...
flexmw.errors.ConfigError: settle(used) = 812: expected a request inside RateLimit(tokens=...) or \
RateLimit(cost=<a function>), which reserves an estimate
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import isawaitable
from typing import Any, NamedTuple, TypeAlias

from flexmw.errors import ConfigError
from flexmw.kit.asgi import Scope
from flexmw.ratelimit.core import TOKENS
from flexmw.ratelimit.rates import Rates

__all__ = ["Charge", "CostOption", "Pricing", "Reservation", "settle"]

CostOption: TypeAlias = int | Callable[[Scope], int | Awaitable[int]]
"""A fixed cost, or a function that estimates the cost of a request."""


class Charge(NamedTuple):
    """What a request is charged when it is admitted.

    :param costs: the cost in each rate.
    :param reserved: the estimate that :func:`settle` corrects.
    :param settled: the rates that are refunded or charged when :func:`settle` is called; ``None`` if the cost is fixed.
    """

    costs: tuple[int, ...]
    reserved: int = 0
    settled: Rates | None = None


class Pricing:
    """The options ``cost`` and ``token_cost``.

    :param cost: the cost in rates of requests.
    :param token_cost: the cost in rates of tokens; ``None`` if no tokens are counted.
    """

    def __init__(self, cost: CostOption, token_cost: CostOption | None = None) -> None:
        self._cost, self._token_cost = cost, token_cost
        self.fixed_cost = cost if isinstance(cost, int) and token_cost is None else None
        """The cost in every rate, if it is the same for every request and never settled."""

    async def charge(self, scope: Scope, rates: Rates) -> Charge:
        """The charge of a request under its rates.

        :raises ConfigError: when a function of the application does not return a whole number, at least 0.
        """
        if self.fixed_cost is not None:
            return Charge((self.fixed_cost,) * len(rates))
        cost = self._cost
        requests = cost if isinstance(cost, int) else await _estimate(cost(scope), "RateLimit(cost=...)")
        token_cost = self._token_cost
        if token_cost is None:
            return Charge((requests,) * len(rates), requests, rates)
        tokens = token_cost if isinstance(token_cost, int) else await _estimate(token_cost(scope), _TOKEN_OPTION)
        costs = tuple(tokens if rate.unit == TOKENS else requests for rate in rates)
        return Charge(costs, tokens, tuple(rate for rate in rates if rate.unit == TOKENS))


_TOKEN_OPTION = "RateLimit(token_cost=...)"  # noqa: S105 - tokens of a language model


class Reservation:
    """The reserved cost of one request, until its real cost is known."""

    __slots__ = ("actual", "reserved")

    def __init__(self, reserved: int) -> None:
        self.reserved = reserved
        self.actual = reserved

    @property
    def excess(self) -> int:
        """How much more was reserved than used; negative if it was less."""
        return self.reserved - self.actual

    @contextmanager
    def active(self) -> Generator[None]:
        """Let :func:`settle` find the reservation in this context."""
        token = _reservations.set((*_reservations.get(), self))
        try:
            yield
        finally:
            _reservations.reset(token)


_reservations: ContextVar[tuple[Reservation, ...]] = ContextVar("flexmw.ratelimit.cost", default=())


def settle(used: int) -> None:
    """Report what the current request really used. The difference to what was reserved is given back, or charged, when
    the response is complete. Of several calls the last one counts.

    :param used: tokens inside ``RateLimit(tokens=...)``, else the cost inside ``RateLimit(cost=<a function>)``.
    :raises ConfigError: for a number below 0, and where no request with an estimate is being served.
    """
    if not _is_cost(used):
        raise ConfigError("settle(used)", used, "a whole number, at least 0")
    reservations = _reservations.get()
    if not reservations:
        raise ConfigError(
            "settle(used)",
            used,
            "a request inside RateLimit(tokens=...) or RateLimit(cost=<a function>), which reserves an estimate",
        )
    for reservation in reservations:
        reservation.actual = used


async def _estimate(value: Any, option: str) -> int:
    """The cost that a function of the application has returned, plain or async."""
    cost = await value if isawaitable(value) else value
    if not _is_cost(cost):
        raise ConfigError(option, cost, "the function to return a whole number, at least 0")
    return int(cost)


def _is_cost(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
