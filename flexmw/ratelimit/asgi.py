"""The server side of RateLimit: decide before the app runs, and report on every response."""

from __future__ import annotations

from inspect import isawaitable
from typing import Any, Final

from flexmw.kit.asgi import ASGIApp, MergedHeaders, Message, Receive, Scope, Send, send_error, with_headers
from flexmw.kit.exchange import ErrorOutcome, Exchange
from flexmw.ratelimit.backend import Backend, LocalBackend, open_backend
from flexmw.ratelimit.callers import CallerIdentifier, NewKeyGuard
from flexmw.ratelimit.concurrency import Lease, new_slot
from flexmw.ratelimit.core import SECOND, Check, Decision, LimitResult, decision_of
from flexmw.ratelimit.cost import Charge, Reservation
from flexmw.ratelimit.headers import RESULT, Reporter
from flexmw.ratelimit.plan import Plan

__all__ = ["FastRateLimitMiddleware", "RateLimitMiddleware", "middleware"]

_REQUESTS: Final = frozenset({"http", "websocket"})
_ENDS: Final = frozenset({"http.response.body", "websocket.http.response.body", "websocket.close"})
_DEFAULT_WINDOW_US: Final = 60 * SECOND


def middleware(plan: Plan, app: ASGIApp) -> RateLimitMiddleware:
    """The middleware for a plan, around an app: the fast one where it can serve the plan."""
    backend = open_backend(
        plan.url,
        plan.algorithm,
        plan.failure,
        timeout=plan.store_timeout,
        clock=plan.clock,
        cache_denials=plan.pricing.fixed_cost is not None,
    )
    is_simple = plan.key_is_bearer and not plan.rates.is_dynamic and not plan.gives_back
    if is_simple and isinstance(backend, LocalBackend):
        return FastRateLimitMiddleware(plan, backend, app)
    return RateLimitMiddleware(plan, backend, app)


class RateLimitMiddleware:
    """An app behind a limiter."""

    def __init__(self, plan: Plan, backend: Backend, app: ASGIApp) -> None:
        self.app = app
        self.backend = backend
        self._plan = plan
        self._rates, self._exempt = plan.rates, plan.exempt
        self._now, self._monotonic = plan.clock.now, plan.clock.monotonic
        window_us = max((rate.window_us for rate in plan.rates.known), default=_DEFAULT_WINDOW_US)
        guard = NewKeyGuard(plan.new_keys_per_address, window_us)
        self._identifier = CallerIdentifier(plan.caller, plan.hasher, guard)
        self._reporter = Reporter(
            failure_mode=plan.failure.mode,
            clock=plan.clock,
            styles=plan.styles,
            shadow=plan.shadow,
            one_unit=not plan.gives_back,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in _REQUESTS:
            await self._lifespan(scope, receive, send)
            return
        exchange = Exchange.of(scope)
        if self._exempt is not None and await _value(self._exempt(scope)):
            await self._bypass(scope, receive, send, exchange)
            return
        check, charge = await self._question(scope)
        if not check.rates and check.slot is None:
            await self._bypass(scope, receive, send, exchange)
            return
        lease = None if check.slot is None else self.backend.lease(check.digest, check.slot)
        start = self._monotonic()
        try:
            outcome = await self.backend.decide(check)
            decided = self._monotonic()
            self._reporter.report(exchange, check, outcome, decided - start)
            result, degraded, _ = outcome
            if lease is not None:
                if result is not None and result.wait_us and not degraded:
                    lease.refused()
                else:
                    lease.granted(degraded=degraded)
            is_taken = result is not None and not result.wait_us
            if not is_taken and await self._refuse(scope, send, exchange, result):
                return
            with MergedHeaders(exchange, send) as send:
                if lease is not None:
                    send = _releasing(lease, send)
                if charge.settled is None:
                    await self.app(scope, receive, send)
                    return
                reservation = Reservation(charge.reserved)
                try:
                    with reservation.active():
                        await self.app(scope, receive, send)
                finally:
                    if reservation.excess and is_taken:
                        costs = (reservation.excess,) * len(charge.settled)
                        # The age counts from the decision, not from the question: a slow store must not make the costs
                        # look older than they are, because what left with its window is not given back.
                        age_us = int((self._monotonic() - decided) * SECOND)
                        refund = check._replace(rates=charge.settled, costs=costs, slot=None)
                        await self.backend.refund(refund, age_us, degraded=degraded)
        finally:
            if lease is not None:
                await lease.release()

    async def explain(self, scope: Scope) -> Decision | None:
        """What would be decided about a request now. Takes nothing. ``None`` if the request is not limited, or if the
        store fails and ``on_store_failure`` is ``open`` or ``closed``."""
        if self._exempt is not None and await _value(self._exempt(scope)):
            return None
        check, _ = await self._question(scope, guard=False)
        if not check.rates and check.slot is None:
            return None
        result, degraded, _ = await self.backend.decide(check._replace(take=False))
        return None if result is None else decision_of(result, self._now(), degraded=degraded)

    async def close(self) -> None:
        """Close the store's connections of this event loop. The end of a lifespan does it too."""
        await self.backend.close()

    async def _question(self, scope: Scope, *, guard: bool = True) -> tuple[Check, Charge]:
        """What the store is to be asked about a request.

        :param guard: whether a new key counts as brought by its address.
        """
        plan = self._plan
        if guard:
            caller = await self._identifier.identify(scope, int(self._monotonic() * SECOND))
        else:
            caller = await plan.caller(scope)
        rates = await self._rates.of(caller, scope)
        slot = None if plan.concurrency is None else new_slot(plan.concurrency, plan.lease)
        if not rates and slot is None:
            return Check(caller.digest, (), ()), Charge(())
        charge = await plan.pricing.charge(scope, rates)
        return Check(caller.digest, rates, charge.costs, slot, caller.earlier), charge

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.backend.check_event_loop()
        try:
            await self.app(scope, receive, send)
        finally:
            await self.close()

    async def _bypass(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        exchange.facts.setdefault(RESULT, "bypassed")
        await self.app(scope, receive, send)

    async def _refuse(self, scope: Scope, send: Send, exchange: Exchange, result: LimitResult | None) -> bool:
        """Send the refusal. Returns whether there is one."""
        error = self._reporter.refusal(result, self.backend.retry_in)
        if error is None:
            return False
        exchange.set_error(ErrorOutcome(error.status, error.type, error.code, "rate_limiting"))
        await send_error(scope, send, error)
        return True


class FastRateLimitMiddleware(RateLimitMiddleware):
    """The same middleware for the most frequent plan, at a third of the price: counted in memory, identified by bearer
    token or address, with one fixed cost and nothing to give back.

    Its ``__call__`` has the same steps, but none of them can wait. So there is no coroutine and no :class:`Check` per
    request, and nothing to undo afterwards. ``benchmarks/ratelimit.py`` measures it.
    """

    def __init__(self, plan: Plan, backend: LocalBackend, app: ASGIApp) -> None:
        super().__init__(plan, backend, app)
        assert plan.pricing.fixed_cost is not None  # noqa: S101
        self._hit = backend.store.hit
        self._digest = self._identifier.bearer_digest
        self._static = plan.rates.static
        self._cost = plan.pricing.fixed_cost

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in _REQUESTS:
            await self._lifespan(scope, receive, send)
            return
        exchange = Exchange.of(scope)
        if self._exempt is not None and await _value(self._exempt(scope)):
            await self._bypass(scope, receive, send, exchange)
            return
        start = self._monotonic()
        start_us = int(start * SECOND)
        digest = self._digest(scope, start_us)
        rates = self._static or self._rates.by_path(scope)
        if not rates:
            await self._bypass(scope, receive, send, exchange)
            return
        result = self._hit(digest, rates, self._cost, start_us)
        self._reporter.add(exchange, result, False)
        if exchange.observers:
            duration = self._monotonic() - start
            self._reporter.emit(exchange, result.rate.name, result, False, duration, None)
        if result.wait_us and await self._refuse(scope, send, exchange, result):
            return
        if exchange.headers_claimed:
            await self.app(scope, receive, send)
            return
        exchange.headers_claimed = True
        try:
            await self.app(scope, receive, with_headers(exchange, send))
        finally:
            exchange.headers_claimed = False


def _releasing(lease: Lease, send: Send) -> Send:
    """A ``send`` that gives the slot back before it sends the end of the response: a client that has read the end may
    ask for the slot again."""

    async def send_after_release(message: Message) -> None:
        if message["type"] in _ENDS and not message.get("more_body"):
            await lease.release()
        await send(message)

    return send_after_release


async def _value(value: Any) -> Any:
    return await value if isawaitable(value) else value
