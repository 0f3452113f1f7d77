"""Settlement: replace the reserved amounts of a request by the used amounts, in one store command.

The store is corrected before the last part of the response leaves, so that a client that has read the whole response
finds its real limit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from flexmw.kit.asgi import ASGIApp, Receive, Scope, Send
from flexmw.kit.clock import Clock
from flexmw.kit.events import RateLimitSettled
from flexmw.kit.exchange import Exchange
from flexmw.ratelimit.backend import Backend
from flexmw.ratelimit.basis import Basis, settled_by
from flexmw.ratelimit.calendar import current
from flexmw.ratelimit.charges import Account, Charges, account_of
from flexmw.ratelimit.core import SECOND, Check
from flexmw.ratelimit.cost import Charge, Pricing, Reservation
from flexmw.ratelimit.ledger import Bill
from flexmw.ratelimit.usage import Usage, UsageReader
from flexmw.ratelimit.usage_observer import UsageLog, UsageObserver

__all__ = ["SETTLEMENT", "Settlement"]

SETTLEMENT: Final = "flexmw.rate_limiting.settlement"
"""The fact: on what the settlement is based."""

_KNOWN: Final = frozenset({"reported", "usage", "counted"})
"""The bases whose usage is that of the request."""


class Settlement:
    """The settlement of one request that was not refused. Used once.

    :param check: what the store was asked.
    :param degraded: the store did not decide.
    :param is_taken: the costs were taken; False where a limiter that refuses nothing has counted nothing.
    :param charges: the charges of the limiter that are on their way.
    :param bill: charges the ledger of the budget; ``None`` where there is none.
    """

    __slots__ = (
        "_account",
        "_backend",
        "_charges",
        "_check",
        "_decided",
        "_degraded",
        "_estimate",
        "_exchange",
        "_expected",
        "_is_reported",
        "_is_taken",
        "_log",
        "_monotonic",
        "_now",
        "_observer",
        "_pricing",
        "_reservation",
        "_reserved",
        "_taken",
    )

    def __init__(
        self,
        pricing: Pricing,
        backend: Backend,
        check: Check,
        charge: Charge,
        exchange: Exchange,
        log: UsageLog,
        *,
        degraded: bool,
        is_taken: bool,
        clock: Clock,
        charges: Charges,
        bill: Bill | None = None,
    ) -> None:
        self._pricing, self._backend, self._exchange, self._log = pricing, backend, exchange, log
        self._estimate, self._expected, self._reserved = charge.estimate, charge.expected, charge.reserved
        self._check = check._replace(rates=charge.settled or (), costs=charge.reserved, slot=None)
        self._degraded, self._is_taken, self._monotonic, self._now = degraded, is_taken, clock.monotonic, clock.now
        # The age of the costs counts from the decision, not from the question: a slow store must not make them look
        # older than they are, because what left with its window is not given back.
        self._decided = clock.monotonic()
        self._reservation = Reservation({rate.unit: rate.scale for rate in self._check.rates})
        self._taken = charge.reserved
        self._observer: UsageObserver | None = None
        self._is_reported = False
        self._charges = charges
        self._account = None if bill is None else account_of(bill, self._check.rates, log)

    async def run(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app, and settle. Raises what the app raises."""
        reader = self._pricing.reader
        if reader is not None and self._check.rates and scope["type"] == "http":
            of_stored: Callable[[str, str], UsageReader | None] | None = getattr(reader, "of_stored", None)
            stored = None if of_stored is None else of_stored(scope.get("method", ""), scope.get("path", ""))
            observer = UsageObserver(
                stored or reader, self._exchange, self._log, receive, send, self._settle, is_stored=stored is not None
            )
            self._observer, receive, send = observer, observer.receive, observer.send
        try:
            with self._reservation.active():
                await app(scope, receive, send)
        except BaseException as error:
            if self._observer is not None:
                if isinstance(error, Exception):
                    self._observer.has_raised = True
                else:
                    self._observer.has_left = True
            raise
        finally:
            await self._settle()

    async def _settle(self) -> None:
        """Correct the store by the difference to what it has, and charge the ledger where there is one."""
        basis, usage, used = self._due()
        account = self._account
        if account is None:
            await self._correct(used)
        elif used != account.requested:
            account.requested = used
            known = usage if basis in _KNOWN else None
            work = partial(
                self._charge, account, used, known, charges_nothing=known is not None and not self._is_reported
            )
            if not await self._charges.run(work):
                self._log.late(self._charges.longest_wait)
        if self._observer is not None and not self._is_reported:
            self._is_reported = True
            self._report(basis, usage, used)

    async def _correct(self, amounts: tuple[int, ...]) -> None:
        """Correct the store by the difference to what it has."""
        check, taken = self._check, self._taken
        if not self._is_taken or amounts == taken:
            return
        self._taken = amounts  # before the store is asked: the end of the app must not correct it again meanwhile
        costs = tuple(before - amount for before, amount in zip(taken, amounts, strict=True))
        # What is given back goes to the period that it was taken from, what is charged to the one that is now.
        now = self._now()
        rates = tuple(current(rate, now) if cost < 0 else rate for rate, cost in zip(check.rates, costs, strict=True))
        age_us = int((self._monotonic() - self._decided) * SECOND)
        await self._backend.refund(check._replace(rates=rates, costs=costs), age_us, degraded=self._degraded)

    async def _charge(
        self, account: Account, used: tuple[int, ...], usage: Usage | None, *, charges_nothing: bool
    ) -> None:
        """Charge the ledger, and then correct the store, which reserves nothing of the budget any more. If the ledger
        fails, the reservation stays for a while.

        :param used: the cost in each of the settled rates.
        :param charges_nothing: charge the ledger even if the amount is 0.
        """
        place = account.place
        try:
            async with account.lock:  # a correction while the charge is on its way
                is_charged = await account.charge(used[place], usage, charges_nothing=charges_nothing)
                kept = 0 if is_charged else self._taken[place]
                await self._correct((*used[:place], kept, *used[place + 1 :]))
        except BaseException:  # the event loop, or the app, has ended
            if due := account.due(used[place]):
                self._log.cut_off(due, self._check.rates[place].unit, self._check.digest)
            raise

    def _due(self) -> tuple[Basis, Usage | None, tuple[int, ...]]:
        """The basis of the settlement, the usage, and the cost in each of the settled rates."""
        reservation = self._reservation
        basis: Basis = "estimate"
        usage = reservation.usage
        if usage is not None:
            basis = "reported"
        elif self._observer is not None:
            basis, usage = settled_by(self._observer.observed(), self._estimate)
        amounts: list[int] = []
        for rate, expected in zip(self._check.rates, self._expected, strict=True):
            amount = reservation.amounts.get(rate.unit)
            if amount is not None:
                basis = "reported"
            elif basis in ("failed", "replayed"):
                amount = 0
            elif usage is not None:
                try:
                    amount = self._pricing.used(rate, usage)
                except Exception as error:  # the application's own function of the price
                    self._log.failed(error)
                    basis = "estimate"
            amounts.append(expected if amount is None else amount)
        return basis, usage, tuple(amounts)

    def _report(self, basis: Basis, usage: Usage | None, amounts: tuple[int, ...]) -> None:
        exchange = self._exchange
        exchange.facts[SETTLEMENT] = basis
        if exchange.observers:
            is_known = usage is not None and basis in _KNOWN
            details: dict[str, Any] = {"input_tokens": 0, "output_tokens": 0, "model": ""}
            if usage is not None and is_known:
                details = {
                    "input_tokens": usage.input_tokens,
                    "output_tokens": usage.output_tokens,
                    "model": usage.model,
                }
            settled: RateLimitSettled = {
                "basis": basis,
                "policy": self._check.rates[0].name,
                "reserved": self._reserved[0],
                "used": amounts[0],
                "is_known": is_known,
                "input_tokens": details["input_tokens"],
                "output_tokens": details["output_tokens"],
                "model": details["model"],
            }
            exchange.emit("flexmw.rate_limiting.settled", settled)
