"""The server side of RateLimit: decide before the app runs, and report on every response."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Final

from flexmw.errors import APIError, SubsystemOffline
from flexmw.kit.app_function import finished
from flexmw.kit.asgi import ASGIApp, Message, Receive, Scope, Send, WrappingApp, send_error
from flexmw.kit.cors import is_preflight
from flexmw.kit.exchange import ErrorOutcome, Exchange, exchange_of, too_late, unclaimed
from flexmw.kit.lifespan import run_lifespan
from flexmw.kit.paths import wrapped_apps
from flexmw.ratelimit.backend import LocalBackend
from flexmw.ratelimit.concurrency import Lease, ReportedLease, new_slot
from flexmw.ratelimit.continuations import STREAM_FIELD, ContinuationLane, giving_back, lane_of
from flexmw.ratelimit.core import SECOND, Check, Decision, LimitResult, Slot, decision_of
from flexmw.ratelimit.headers import RESULT, Reporter, is_final
from flexmw.ratelimit.ledger import BalanceUnknown, Bill
from flexmw.ratelimit.plan import EXEMPT_OPTION, Plan
from flexmw.ratelimit.rates import Rates
from flexmw.ratelimit.settlement import Settlement
from flexmw.ratelimit.several_apps import MarkedApp, is_repeated
from flexmw.ratelimit.shared import Shared
from flexmw.ratelimit.usage_observer import UsageLog

__all__ = ["RateLimitMiddleware", "is_around"]

_REQUESTS: Final = frozenset({"http", "websocket"})
_ENDS: Final = frozenset({"http.response.body", "websocket.http.response.body", "websocket.close"})


def is_around(app: ASGIApp, shared: Shared) -> bool:
    """Return whether a middleware object of the same component is around an app already."""
    return any(isinstance(layer, RateLimitMiddleware) and layer.shared is shared for layer in wrapped_apps(app))


class RateLimitMiddleware(WrappingApp):
    """An app behind a limiter."""

    def __init__(self, plan: Plan, shared: Shared, app: ASGIApp) -> None:
        self.app = app
        self.shared = shared
        self.backend, self._identifier, self._charges, _ = shared
        self._plan = plan
        self._rates, self._pricing, self._exempt = plan.rates, plan.pricing, plan.exempt
        self._concurrency, self._lease = plan.concurrency, plan.lease
        # A framework may make the middleware of a mounted app with its first request, which holds a slot by then.
        self._may_repeat = plan.concurrency is not None
        self._marked_app: ASGIApp | None = MarkedApp(shared, app) if self._may_repeat else None
        self._may_meet_itself = not plan.is_named and not isinstance(shared.backend, LocalBackend)
        self._now, self._monotonic = plan.clock.now, plan.clock.monotonic
        self._judge_known = self._identifier.judge_known
        # Identifying by bearer token needs no coroutine, unless a function of the application takes the Caller, or the
        # store needs the earlier digests of the caller.
        is_immediate = plan.key_is_bearer and not plan.rates.is_dynamic and not plan.hasher.rotates
        self._digest = self._identifier.bearer_digest if is_immediate else None
        self._static = plan.rates.static
        self._lane = lane_of(app)
        self._usage_log = UsageLog(plan.clock.monotonic)
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
        exchange = exchange_of(scope)
        if (self._exempt is not None and await finished(self._exempt(scope), EXEMPT_OPTION)) or (
            scope.get("method") == "OPTIONS" and is_preflight(scope)
        ):
            await self._bypass(scope, receive, send, exchange, self.app)
            return
        if self._may_repeat and is_repeated(exchange, self.shared):
            await self.app(scope, receive, send)
            return
        if (lane := self._lane) is not None and STREAM_FIELD in dict(scope["headers"]) and await lane.takes(scope):
            await self._continue(lane, scope, receive, send, exchange)
            return
        app = self._marked_app or self.app
        earlier: tuple[str, ...] = ()
        bill: Bill | None = None
        now_us = int(self._monotonic() * SECOND)
        digest = None if self._digest is None else self._digest(scope, now_us)
        if digest is not None:
            rates = self._static or self._rates.by_path(scope)
        else:
            caller, app = await self._identifier.identify(scope, now_us, app)
            digest, earlier = caller.digest, caller.earlier
            try:
                rates = await self._rates.of(caller, scope)
            except BalanceUnknown:
                await self._without_balance(scope, receive, send, exchange, app)
                return
            if (ledger := self._rates.ledger) is not None:
                bill = partial(ledger.charge, caller)
        if not rates and self._concurrency is None:
            await self._bypass(scope, receive, send, exchange, app)
            return
        prefix = self._plan.prefix
        outer: tuple[object, ...] = ()
        if self._may_meet_itself:
            outer = getattr(exchange, "checks", outer)
            rates, prefix = self._apart_from_outer(exchange, digest, rates)
        charge = await self._pricing.charge(scope, rates, receive)
        check = Check(digest, rates, charge.costs, self._slot(prefix), earlier)
        lease = None if check.slot is None else self.backend.lease(check.digest, check.slot)
        start = self._monotonic()
        merges = False
        try:
            outcome = await self.backend.decide(check)
            self._reporter.report(exchange, check, outcome, self._monotonic() - start)
            result, degraded, _ = outcome
            if lease is not None:
                if result is not None and result.wait_us and not degraded:
                    lease.refused()
                else:
                    lease.granted(degraded=degraded)
                    if exchange.observers and check.slot is not None:
                        lease = ReportedLease(lease, exchange.emit, check.slot.rate.name)
            is_taken = result is not None and not result.wait_us
            if not is_taken and await self._refuse(scope, send, exchange, result, check):
                return
            if not exchange.headers_claimed:
                exchange.headers_claimed = merges = True
                exchange.judged_key = self._judge_known, digest
                if exchange.forward is unclaimed:
                    exchange.forward, send = send, exchange.send
                else:
                    send = exchange.further_send(send)
            if lease is not None:
                send = _with_release(lease, send)
            if charge.settled is None:
                await app(scope, receive, send)
                return
            settlement = Settlement(
                self._pricing,
                self.backend,
                check,
                charge,
                exchange,
                self._usage_log,
                degraded=degraded,
                is_taken=is_taken,
                clock=self._plan.clock,
                charges=self._charges,
                bill=bill,
            )
            await settlement.run(app, scope, charge.receive or receive, send)
        except Exception as error:
            self._judge_known(digest, exchange.map_exception(error).status)
            raise
        finally:
            if merges:
                exchange.headers_claimed = False
                exchange.forward = too_late
                exchange.judged_key = None
            elif exchange.error_outcome is not None:
                self._judge_known(digest, exchange.error_outcome.status)
            if self._may_meet_itself:
                exchange.checks = outer  # a later call of the app with this request is not inside of this call
            if lease is not None:
                await lease.release()

    def expect_repetitions(self) -> None:
        """Check from now on whether a request has passed this limiter already, around another app: it is not counted
        again."""
        if not self._may_repeat:
            self._may_repeat, self._marked_app = True, MarkedApp(self.shared, self.app)

    async def explain(self, scope: Scope) -> Decision | None:
        """Return the decision about a request, and take nothing.

        :returns: ``None`` if the request is not limited, or if the store fails and ``on_store_failure`` is ``open`` or
            ``closed``.
        :raises SubsystemOffline: the credit of the caller is not known in time.
        """
        if (self._exempt is not None and await finished(self._exempt(scope), EXEMPT_OPTION)) or is_preflight(scope):
            return None
        caller = await self._plan.caller(scope)
        try:
            rates = await self._rates.of(caller, scope)
        except BalanceUnknown:
            raise _credit_unknown() from None
        if not rates and self._concurrency is None:
            return None
        costs = (await self._pricing.charge(scope, rates)).costs
        check = Check(caller.digest, rates, costs, self._slot(self._plan.prefix), caller.earlier, take=False)
        result, degraded, _ = await self.backend.decide(check)
        if result is None:
            return None
        return decision_of(result, self._now(), degraded=degraded, is_final=is_final(result, check))

    async def close(self) -> None:
        """Wait for the charges that have not ended, and close the connections of this event loop to the store. The end
        of a lifespan does both."""
        await self._charges.drain()
        await self.backend.close()

    def _slot(self, prefix: str) -> Slot | None:
        return None if self._concurrency is None else new_slot(self._concurrency, self._lease, prefix)

    def _apart_from_outer(self, exchange: Exchange, digest: str, rates: Rates) -> tuple[Rates, str]:
        """Return the rates and the prefix of this limiter, changed if an outer limiter has used the same counters.

        Two limiters that one function of the application makes have the same prefix. They must count separately.
        """
        counters = (digest, rates, self._concurrency)
        outer: tuple[object, ...] = getattr(exchange, "checks", ())
        exchange.checks = (*outer, counters)
        depth = outer.count(counters)
        return _nested(rates, self._plan.prefix, depth) if depth else (rates, self._plan.prefix)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":  # a type that no server sends yet
            await self.app(scope, receive, send)
            return
        self.backend.check_event_loop()

        async def drained_receive() -> Message:
            """Wait for the charges that have not ended, before the app closes its database."""
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self._charges.drain()
            return message

        try:
            received = receive if self._rates.ledger is None else drained_receive
            await run_lifespan(self.app, scope, received, send, "flexmw.ratelimit")
        finally:
            await self.close()

    async def _bypass(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange, app: ASGIApp) -> None:
        exchange.facts.setdefault(RESULT, "bypassed")
        await app(scope, receive, send)

    async def _continue(
        self, lane: ContinuationLane, scope: Scope, receive: Receive, send: Send, exchange: Exchange
    ) -> None:
        """Handle a request for the rest of a response."""
        app = self._marked_app or self.app
        caller, app = await self._identifier.identify(scope, int(self._monotonic() * SECOND), app)
        try:
            rates = await self._rates.of(caller, scope)
        except BalanceUnknown:
            await self._without_balance(scope, receive, send, exchange, app)
            return
        check = lane.check(caller.digest, rates)
        if check.rates:
            outcome = await self.backend.decide(check)
            is_taken = outcome.result is not None and not outcome.result.wait_us
            if not is_taken and await self._refuse(scope, send, exchange, outcome.result, check):
                return
            if is_taken:
                send = giving_back(send, exchange, self.backend, check, degraded=outcome.degraded)
        await self._bypass(scope, receive, send, exchange, app)

    async def _refuse(
        self, scope: Scope, send: Send, exchange: Exchange, result: LimitResult | None, check: Check | None = None
    ) -> bool:
        """Send the refusal, if the result is one. Returns whether the request is refused."""
        error = self._reporter.refusal(result, self.backend.retry_in, check)
        if error is None:
            return False
        await self._send_error(scope, send, exchange, error)
        return True

    async def _without_balance(
        self, scope: Scope, receive: Receive, send: Send, exchange: Exchange, app: ASGIApp
    ) -> None:
        """Handle a request whose caller has a credit that is not known in time: refuse it, or do not limit it."""
        shadow = self._plan.shadow
        self._usage_log.no_balance(shadow=shadow)
        exchange.facts[RESULT] = "shadow_rejected" if shadow else "storage_error_rejected"
        if shadow:
            await self._bypass(scope, receive, send, exchange, app)
        else:
            await self._send_error(scope, send, exchange, _credit_unknown())

    async def _send_error(self, scope: Scope, send: Send, exchange: Exchange, error: APIError) -> None:
        exchange.set_error(ErrorOutcome(error.status, error.type, error.code, "rate_limiting"))
        await send_error(scope, send, error, self.app)


def _credit_unknown() -> SubsystemOffline:
    return SubsystemOffline("The rate limiter", 1.0)


@lru_cache(maxsize=256)
def _nested(rates: Rates, prefix: str, depth: int) -> tuple[Rates, str]:
    """Rates and prefix of a limiter inside ``depth`` limiters with the same counters."""
    prefix = f"{prefix}:inner{depth}" if prefix else f"inner{depth}"
    return tuple(rate._replace(prefix=prefix) for rate in rates), prefix


def _with_release(lease: Lease, send: Send) -> Send:
    """Make a ``send`` that releases the slot before it sends the end of the response: a client that has read the end
    may need the slot for its next request."""

    async def send_with_release(message: Message) -> None:
        if message["type"] in _ENDS and not message.get("more_body"):
            await lease.release()
        await send(message)

    return send_with_release
