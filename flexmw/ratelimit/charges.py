"""The charges of a ledger: one after the other for each request, and in the background where the ledger is slow.

No response waits longer for the application's own database than for the store. A charge is never given up while its
event loop runs, whether its request waits, has ended or was cancelled. Their number has no bound of its own: a ledger
whose ``charge`` hangs mostly hangs in ``balance`` too and admits no further requests, and each charge that hangs keeps
its reservation, which lowers what the caller may still spend.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from decimal import Decimal
from functools import partial
from typing import Any, Final

import anyio

from flexmw.kit.background import BackgroundTask, drain, start_in_background
from flexmw.kit.clock import Clock
from flexmw.ratelimit.calendar import BUDGET
from flexmw.ratelimit.ledger import Bill
from flexmw.ratelimit.rates import Rates
from flexmw.ratelimit.usage import Usage
from flexmw.ratelimit.usage_observer import UsageLog

__all__ = ["DRAIN_SECONDS", "Account", "Charges", "account_of"]

DRAIN_SECONDS: Final = 5.0
"""Seconds that the end of an app waits for the charges that are on their way."""


class Account:
    """The account of the caller, and what one request has charged to it.

    :param bill: charges the ledger.
    :ivar place: the place of the budget among the settled rates.
    :param scale: what one unit of the budget is in the store's numbers.
    :ivar requested: the costs of the last charge; ``None`` before the first one. A charge that has failed is not
        repeated, because the database may have it.
    :ivar lock: held by the charge that is on its way.
    """

    __slots__ = ("_bill", "_charged", "_log", "_scale", "lock", "place", "requested")

    def __init__(self, bill: Bill, place: int, scale: int, log: UsageLog) -> None:
        self._bill, self._scale, self._log = bill, scale, log
        self._charged = 0
        self.place, self.lock = place, anyio.Lock()
        self.requested: tuple[int, ...] | None = None

    def due(self, amount: int) -> Decimal:
        """What is still to be charged of an amount in the store's numbers, in the unit of the budget."""
        return Decimal(amount - self._charged) / self._scale

    async def charge(self, amount: int, usage: Usage | None, *, charges_nothing: bool) -> bool:
        """Charge the difference to what was charged before.

        :param amount: what the request costs, in the store's numbers.
        :param charges_nothing: call the ledger even if the difference is 0.
        :returns: whether the ledger has taken it.
        """
        due = self.due(amount)
        if due or charges_nothing:
            try:
                await self._bill(due, usage)
            except Exception as error:
                self._log.failed(error)
                return False
            self._charged = amount
        return True


def account_of(bill: Bill, rates: Rates, log: UsageLog) -> Account | None:
    """The account that a request is charged to; ``None`` for a caller without a budget.

    :param rates: the settled rates.
    """
    for place, rate in enumerate(rates):
        if rate.period == BUDGET:
            return Account(bill, place, rate.scale, log)
    return None


class _Charge:
    """One charge, and the task that makes it."""

    __slots__ = ("done", "task")

    task: BackgroundTask

    def __init__(self) -> None:
        self.done = anyio.Event()


class Charges:
    """The charges of one limiter that are on their way.

    :ivar longest_wait: seconds that a request waits for its charge.
    :param clock: measures the time of :meth:`drain`.
    """

    def __init__(self, longest_wait: float, clock: Clock) -> None:
        self.longest_wait, self._clock = longest_wait, clock
        self._running: dict[_Charge, None] = {}

    async def run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Make a charge, and wait for it for a while. It goes on if the request is cancelled.

        :param work: makes the charge, in the context of the request. It raises no ``Exception``.
        :returns: whether the charge is done.
        """
        charge = _Charge()
        self._running[charge] = None
        charge.task = start_in_background(partial(self._carry_out, charge, work), copy_context())
        with anyio.move_on_after(self.longest_wait):
            await charge.done.wait()
        return charge.done.is_set()

    async def drain(self) -> None:
        """Wait until all charges of this event loop are done, for :data:`DRAIN_SECONDS` at most. Those that are not
        done then are cancelled. Another event loop has an app, and an end, of its own."""
        await drain(self._left, lambda charge: charge.task.cancel(), seconds=DRAIN_SECONDS, clock=self._clock)

    def _left(self) -> list[_Charge]:
        """The charges of the event loop that runs."""
        return [charge for charge in tuple(self._running) if charge.task.is_here()]

    async def _carry_out(self, charge: _Charge, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        finally:
            self._running.pop(charge, None)
            with suppress(RuntimeError):  # the event loop is closed, and the request that waited in it is gone
                charge.done.set()
