"""What a request really cost, told by the handler while it is served.

>>> from flexmw.ratelimit import settle
>>> settle(812)
Traceback (most recent call last):
    ...
flexmw.errors.ConfigError: settle(used) = 812: expected a request inside RateLimit(tokens=...) or \
RateLimit(cost=<a function>), which reserves an estimate
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import isawaitable
from typing import Any

from flexmw.errors import ConfigError

__all__ = ["Ticket", "estimate", "settle", "ticketed"]


class Ticket:
    """One request's reservation, while its real cost is not known."""

    __slots__ = ("actual", "reserved")

    def __init__(self, reserved: int) -> None:
        self.reserved = reserved
        self.actual = reserved

    @property
    def over(self) -> int:
        """What was reserved too much; negative when it was too little."""
        return self.reserved - self.actual


_tickets: ContextVar[tuple[Ticket, ...]] = ContextVar("flexmw.ratelimit.cost", default=())


@contextmanager
def ticketed(ticket: Ticket) -> Generator[None]:
    """Let :func:`settle` find the ticket."""
    token = _tickets.set((*_tickets.get(), ticket))
    try:
        yield
    finally:
        _tickets.reset(token)


def settle(used: int) -> None:
    """Say what the current request really used: the difference to what was reserved is given back, or charged, when the
    response is complete. The last call counts.

    It is the tokens inside ``RateLimit(tokens=...)``, else the cost inside ``RateLimit(cost=<a function>)``.

    :raises ConfigError: for a number below 0, or where no request with an estimate is being served.
    """
    if not _is_cost(used):
        raise ConfigError("settle(used)", used, "a whole number, at least 0")
    tickets = _tickets.get()
    if not tickets:
        raise ConfigError(
            "settle(used)",
            used,
            "a request inside RateLimit(tokens=...) or RateLimit(cost=<a function>), which reserves an estimate",
        )
    for ticket in tickets:
        ticket.actual = used


async def estimate(value: Any, option: str) -> int:
    """What a host's function estimates.

    :raises ConfigError: when that is no whole number.
    """
    cost = await value if isawaitable(value) else value
    if not _is_cost(cost):
        raise ConfigError(option, cost, "the function to return a whole number, at least 0")
    return int(cost)


def _is_cost(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
