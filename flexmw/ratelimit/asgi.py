"""The server face of RateLimit: decide before the app runs, say so on every response."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final

from flexmw.kit.asgi import ASGIApp, Message, Receive, Scope, Send, send_error
from flexmw.kit.exchange import ErrorOutcome, Exchange
from flexmw.kit.identity import CallerHasher, bearer_token
from flexmw.kit.store_url import parse, probe
from flexmw.ratelimit.callers import Caller, NewKeys, by_address, keyed
from flexmw.ratelimit.concurrency import Lease, carried_out, shielded
from flexmw.ratelimit.core import SECOND, Cost, Decision, LimitResult, Rate
from flexmw.ratelimit.cost import Ticket, ticketed
from flexmw.ratelimit.dimensions import Dimensions
from flexmw.ratelimit.fallback import check_loop, policy_of
from flexmw.ratelimit.headers import RESULT, Report
from flexmw.ratelimit.limiter import Limiter
from flexmw.ratelimit.routes import exemption
from flexmw.ratelimit.stores.open import schemes

if TYPE_CHECKING:
    from flexmw.ratelimit.component import RateLimit

__all__ = ["Limited"]

_STARTS: Final = frozenset({"http.response.start", "websocket.http.response.start", "websocket.accept"})
_ENDS: Final = frozenset({"http.response.body", "websocket.http.response.body", "websocket.close"})


class Limited:
    """An app behind a limiter."""

    def __init__(self, options: RateLimit, app: ASGIApp) -> None:
        self.app = app
        clock, storage = options.clock, "RateLimit(storage=...)"
        url = parse(options.storage, storage, schemes=schemes())
        if options.on_store_failure is None:
            probe(url, storage)
        self._options = options
        self._monotonic = clock.monotonic
        self._callers = CallerHasher(pepper=options.pepper, trusted_proxies=options.trusted_proxies)
        self._hasher = self._callers.hasher
        self._caller = keyed(options.key, self._callers, "RateLimit(key=...)")
        self._rates = Dimensions(options)
        self._static = self._rates.static
        self._exempt = exemption(options.exempt, "RateLimit(exempt=...)")
        policy = policy_of(options.on_store_failure or "local", "RateLimit(on_store_failure=...)")
        longest = max((rate.window_us for rate in self._rates.known), default=60_000_000)
        self._new_keys = NewKeys(options.new_keys_per_address, longest)
        self._cost = options.cost if isinstance(options.cost, int) and not self._rates.settles else 0
        self._gives_back = not self._cost or options.concurrency is not None
        self.limiter = Limiter(
            options.strategy,
            url,
            policy=policy,
            timeout=options.store_timeout,
            clock=clock,
            remembers=bool(self._cost),
        )
        self._memory = self.limiter.memory
        self._report = Report(
            self.limiter,
            policy,
            clock=clock,
            dialects=options.headers,
            shadow=options.shadow,
            alone=not self._gives_back,
        )
        self._asks_nobody = options.key == "bearer" and not self._rates.asks and not self._callers.rotates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" and scope["type"] != "websocket":
            if self._memory is None:
                check_loop()
            try:
                await self.app(scope, receive, send)
            finally:
                await self.close()
            return
        exchange = Exchange.of(scope)
        if self._exempt is not None and await _value(self._exempt(scope)):
            await self._pass(scope, receive, send, exchange)
            return
        earlier: Sequence[str] = ()
        now = int(self._monotonic() * SECOND)
        if self._asks_nobody:
            digest, rates = self._digest(scope, now), self._static or self._rates.fixed(scope)
        else:
            caller = await self._identify(scope, now)
            digest, earlier = caller.digest, caller.earlier
            rates = await self._rates.of(caller, scope)
            now = int(self._monotonic() * SECOND)
        if self._gives_back:
            await self._reserve(scope, receive, send, exchange, digest, rates, earlier)
            return
        if not rates:
            await self._pass(scope, receive, send, exchange)
            return
        failures: list[Exception] = []
        found: LimitResult | None
        if self._memory is not None:
            found, degraded = self._memory.decide_now(digest, rates, self._cost, now), False
        else:
            found, degraded = await self.limiter.decide(digest, rates, self._cost, failures.append, earlier=earlier)
        self._report.note(exchange, found, degraded, rates)
        if exchange.observers:
            duration = self._monotonic() - now / SECOND
            self._report.tell(exchange, found, degraded, rates, duration, failures)
        if (found is None or found.wait_us) and await self._refused(scope, send, exchange, found):
            return

        # No coroutine of its own: what `send` returns is awaited by the app.
        def passing(message: Message) -> Awaitable[None]:
            if message["type"] in _STARTS:
                message = {**message, "headers": exchange.complete(message.get("headers") or ())}
            return send(message)

        await self.app(scope, receive, passing)

    async def _reserve(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        exchange: Exchange,
        digest: str,
        rates: Sequence[Rate],
        earlier: Sequence[str],
    ) -> None:
        """The same where something is given back: what was estimated too high, and the slot."""
        options = self._options
        if not rates and options.concurrency is None:
            await self._pass(scope, receive, send, exchange)
            return
        bill = await self._rates.bill(scope, rates)
        lease = slot = None
        named = rates
        if options.concurrency is not None:
            lease = Lease(self.limiter, digest, options.concurrency, options.lease)
            slot = lease.slot
            named = (*rates, slot.rate)
        failures: list[Exception] = []
        start = self._monotonic()
        try:
            found, degraded = await self.limiter.decide(
                digest, rates, bill.cost, failures.append, slot=slot, earlier=earlier
            )
            self._report.note(exchange, found, degraded, named)
            if exchange.observers:
                self._report.tell(exchange, found, degraded, named, self._monotonic() - start, failures)
            taken = found is not None and not found.wait_us
            if lease is not None:
                if found is not None and found.wait_us and not degraded:
                    lease.refused()
                else:
                    lease.keep(degraded=degraded)
            if not taken and await self._refused(scope, send, exchange, found):
                return

            async def passing(message: Message) -> None:
                kind = message["type"]
                if kind in _STARTS:
                    message = {**message, "headers": exchange.complete(message.get("headers") or ())}
                elif lease is not None and kind in _ENDS and not message.get("more_body"):
                    # Before the caller can see the end and ask for the slot again.
                    await lease.release()
                await send(message)

            if bill.settled is None:
                await self.app(scope, receive, passing)
                return
            ticket, taken_at = Ticket(bill.reserved), self._monotonic()
            try:
                with ticketed(ticket):
                    await self.app(scope, receive, passing)
            finally:
                # From when the store's answer was here: one that took longer to come must not lose what is given back.
                over, age = ticket.over, int((self._monotonic() - taken_at) * SECOND)
                if over and taken:
                    give = self.limiter.give(
                        digest, bill.settled, over, failures.append, degraded=degraded, earlier=earlier, age=age
                    )
                    await shielded(self.limiter, give)
        finally:
            if lease is not None:
                await lease.release()

    async def _pass(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        exchange.facts.setdefault(RESULT, "bypassed")
        await self.app(scope, receive, send)

    async def _refused(self, scope: Scope, send: Send, exchange: Exchange, found: LimitResult | None) -> bool:
        error = self._report.refusal(found)
        if error is None:
            return False
        exchange.set_error(ErrorOutcome(error.status, error.type, error.code, "rate_limiting"))
        await send_error(scope, send, error)
        return True

    async def close(self) -> None:
        """Close the store's connections of this event loop; done by itself when a lifespan ends."""
        if self._memory is None:
            await carried_out()
        await self.limiter.close()

    async def explain(self, scope: Scope) -> Decision | None:
        """What would be decided about a request now. Consumes nothing.

        ``None``: it is not limited, or nobody counts.
        """
        options = self._options
        if self._exempt is not None and await _value(self._exempt(scope)):
            return None
        caller = await self._caller(scope)
        rates = await self._rates.of(caller, scope)
        if not rates and options.concurrency is None:
            return None
        cost: Cost = self._cost or (await self._rates.bill(scope, rates)).cost
        slot = None
        if options.concurrency is not None:
            slot = Lease(self.limiter, caller.digest, options.concurrency, options.lease).slot
        return await self.limiter.look(caller.digest, rates, cost, slot=slot, earlier=caller.earlier)

    async def _identify(self, scope: Scope, now: int) -> Caller:
        caller = await self._caller(scope)
        if caller.kind != "key" or caller.proven or self._new_keys.knows(caller.digest, now):
            return caller
        address = by_address(self._callers, scope)
        if address.kind == "shared" or self._new_keys.admits(caller.digest, address.digest, now):
            return caller
        return address

    def _digest(self, scope: Scope, now: int) -> str:
        """:meth:`_identify` for bearer tokens, without anything that could be waited for."""
        token = bearer_token(scope)
        if token is None:
            return self._callers.of_address(scope).digest
        hasher = self._hasher()
        hasher.update(token)
        digest = hasher.hexdigest()
        if not self._new_keys.knows(digest, now):
            address = self._callers.of_address(scope)
            if address.kind != "shared" and not self._new_keys.admits(digest, address.digest, now):
                return address.digest
        return digest


async def _value(value: Any) -> Any:
    return await value if isawaitable(value) else value
