"""Ledgers: prepaid credit that the application keeps itself, in its own database.

The limiter counts only what is reserved by requests that run: the credit that is left must cover it. What a request has
used is charged to the ledger when its response ends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Final, Protocol, TypeAlias, runtime_checkable

from flexmw.ratelimit.amounts import Amount
from flexmw.ratelimit.callers import Caller
from flexmw.ratelimit.usage import Usage

__all__ = ["BALANCE_SECONDS", "RESERVATION_SECONDS", "BalanceUnknown", "Bill", "Ledger"]

BALANCE_SECONDS: Final = 5.0
"""Seconds that a request waits for its caller's credit. A database is slower than the limiter's store at times, so
``store_timeout`` would refuse requests that are fine."""

RESERVATION_SECONDS: Final = 3600
"""Seconds after which a reservation of a request that was killed with its process counts no more."""


class BalanceUnknown(Exception):
    """The application has not said in time what credit the caller has left."""


@runtime_checkable
class Ledger(Protocol):
    """The credit of all callers, kept by the application."""

    async def balance(self, caller: Caller) -> Amount | None:
        """What the caller has left; ``None`` for a caller without a budget. A call that takes more than five seconds is
        cancelled, and its request gets 503."""
        ...

    async def charge(self, caller: Caller, amount: Decimal, usage: Usage | None) -> None:
        """Charge one request that is over. Called once for each executed request, also with an amount of 0 if the
        request has usage; of a correction after that with the difference, which may be negative. The last part of the
        response waits for ``store_timeout`` at most; the call goes on after that, and has no time limit.

        :param amount: the amount in the unit of the limiter, a whole number of millionths.
        :param usage: what the request has used; ``None`` where its estimate is charged.
        """
        ...


Bill: TypeAlias = Callable[[Decimal, Usage | None], Awaitable[None]]
"""Charges one request to the account of its caller."""
