"""The server face of RateLimit: decide before the app runs, say so on every response."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final

from flexmw.contract import Quota, render
from flexmw.errors import APIError, ConfigError, RateLimitExceeded, SubsystemOffline
from flexmw.kit.asgi import ASGIApp, Message, Receive, Scope, Send, raw_headers, refuse
from flexmw.kit.exchange import Answer, Exchange
from flexmw.kit.identity import Callers
from flexmw.kit.storage import parse, probe
from flexmw.ratelimit.core import Decision, Rate
from flexmw.ratelimit.keys import Caller, NewKeys, keyed
from flexmw.ratelimit.ladder import policy_of
from flexmw.ratelimit.limiter import Limiter
from flexmw.ratelimit.rules import Rules, exemption
from flexmw.ratelimit.stores import schemes

if TYPE_CHECKING:
    from flexmw.ratelimit.component import RateLimit

__all__ = ["Limited", "settle"]

_STARTS: Final = frozenset({"http.response.start", "websocket.http.response.start", "websocket.accept"})
_RESULT: Final = "flexmw.rate_limiting.result"
_RESULTS: Final = {
    (True, False): "acquired",
    (False, False): "rejected",
    (True, True): "storage_error_allowed",
    (False, True): "storage_error_rejected",
}


class Ticket:
    """One request's reservation, while its real cost is not known."""

    __slots__ = ("actual", "reserved")

    def __init__(self, reserved: int) -> None:
        self.reserved = reserved
        self.actual = reserved


_tickets: ContextVar[tuple[Ticket, ...]] = ContextVar("flexmw.ratelimit.tickets", default=())


def settle(cost: int) -> None:
    """Say what the current request really cost: the difference to what was reserved is given back, or charged, when the
    response is complete. Needs ``RateLimit(cost=<a function>)`` around the app; the last call counts.

    :raises ConfigError: for a cost below 0, or where no request with an estimated cost is being served.
    """
    if not _is_cost(cost):
        raise ConfigError("settle(cost)", cost, "a whole number, at least 0")
    tickets = _tickets.get()
    if not tickets:
        raise ConfigError(
            "settle(cost)", cost, "a request inside RateLimit(cost=<a function>), which reserves an estimate"
        )
    for ticket in tickets:
        ticket.actual = cost


class Limited:
    """An app behind a limiter."""

    def __init__(self, options: RateLimit, app: ASGIApp) -> None:
        self.app = app
        clock, storage = options.clock, "RateLimit(storage=...)"
        url = parse(options.storage, storage, schemes=schemes())
        if options.on_store_failure is None:
            probe(url, storage)
        self._options = options
        self._clock = clock
        self._callers = Callers(pepper=options.pepper, trusted_proxies=options.trusted_proxies)
        self._caller = keyed(options.key, self._callers, "RateLimit(key=...)")
        self._rules = Rules(options.rates, options.limit, clock=clock)
        self._exempt = exemption(options.exempt, "RateLimit(exempt=...)")
        self._policy = policy_of(options.on_store_failure or "local", "RateLimit(on_store_failure=...)")
        longest = max((rate.window for rate in self._rules.known), default=60_000_000)
        self._new_keys = NewKeys(options.new_keys_per_address, longest, clock.monotonic)
        self.limiter = Limiter(
            options.strategy,
            url,
            policy=self._policy,
            timeout=options.store_timeout,
            clock=clock,
            remembers=isinstance(options.cost, int),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" and scope["type"] != "websocket":
            await self.app(scope, receive, send)
            return
        exchange = Exchange.of(scope)
        rates: Sequence[Rate] = ()
        if self._exempt is None or not await _value(self._exempt(scope)):
            caller = await self._identify(scope)
            rates = await self._rules.of(caller, scope) if self._rules.asks else self._rules.fixed(scope)
        if not rates:
            exchange.facts.setdefault(_RESULT, "bypassed")
            await self.app(scope, receive, send)
            return
        cost = self._options.cost
        reserved = cost if isinstance(cost, int) else await _cost(cost(scope))
        start = self._clock.monotonic()
        failures: list[Exception] = []
        decision = await self.limiter.decide(caller.digest, rates, reserved, failures.append)
        self._tell(exchange, decision, rates, self._clock.monotonic() - start, failures)
        error = self._refusal(decision)
        if error is not None and not self._options.shadow:
            exchange.settle(Answer(error.status, error.type, error.code, "rate_limiting"))
            await refuse(scope, send, error)
            return

        async def passing(message: Message) -> None:
            if message["type"] in _STARTS:
                message = {**message, "headers": exchange.complete(message.get("headers") or ())}
            await send(message)

        if isinstance(cost, int):
            await self.app(scope, receive, passing)
            return
        ticket = Ticket(reserved)
        token = _tickets.set((*_tickets.get(), ticket))
        try:
            await self.app(scope, receive, passing)
        finally:
            _tickets.reset(token)
            if ticket.actual != reserved and decision is not None and decision.allowed:
                await self.limiter.give(caller.digest, rates, reserved - ticket.actual, failures.append)

    async def explain(self, scope: Scope) -> Decision | None:
        """What would be decided about a request now. Consumes nothing.

        ``None``: it is not limited, or nobody counts.
        """
        if self._exempt is not None and await _value(self._exempt(scope)):
            return None
        caller = await self._caller(scope)
        rates = await self._rules.of(caller, scope) if self._rules.asks else self._rules.fixed(scope)
        if not rates:
            return None
        cost = self._options.cost
        return await self.limiter.look(
            caller.digest, rates, cost if isinstance(cost, int) else await _cost(cost(scope))
        )

    async def _identify(self, scope: Scope) -> Caller:
        caller = await self._caller(scope)
        if caller.kind != "key" or caller.proven:
            return caller
        address = self._callers.of_address(scope)
        if address.kind == "shared" or self._new_keys.admits(caller, address.digest):
            return caller
        return Caller(address.kind, address.digest, self._callers.address(scope) or "")

    def _refusal(self, decision: Decision | None) -> APIError | None:
        if decision is None:
            if self._policy.mode == "open":
                return None
            return SubsystemOffline("The rate limiter", max(1.0, self.limiter.retry_in))
        return None if decision.allowed else RateLimitExceeded(decision.retry_after)

    def _tell(
        self,
        exchange: Exchange,
        decision: Decision | None,
        rates: Sequence[Rate],
        duration: float,
        failures: Sequence[Exception],
    ) -> None:
        facts = exchange.facts
        if decision is None:
            result, policy = f"storage_error_{'allowed' if self._policy.mode == 'open' else 'rejected'}", rates[0].name
            facts |= {_RESULT: result, "flexmw.rate_limiting.policy": policy}
        else:
            result, policy = _RESULTS[decision.allowed, decision.degraded], decision.policy
            if self._shows(facts, decision):
                facts |= {
                    _RESULT: result,
                    "flexmw.rate_limiting.policy": policy,
                    "flexmw.rate_limiting.limit": decision.limit,
                    "flexmw.rate_limiting.remaining": decision.remaining,
                }
                if not decision.allowed:
                    facts["flexmw.rate_limiting.retry_after"] = decision.retry_after
                self._head(exchange, decision)
        details = {"decision": decision, "result": result, "policy": policy, "duration": duration}
        for exception in failures:
            details["error_type"] = type(exception).__qualname__
            exchange.tell(
                "flexmw.rate_limiting.storage_failed", {"exception": exception, "policy": policy, "result": result}
            )
        exchange.tell("flexmw.rate_limiting.decided", {**details, "shadow": self._options.shadow})

    def _shows(self, facts: dict[str, Any], decision: Decision) -> bool:
        """Whether this decision is tighter than that of another limiter around this one."""
        limit = facts.get("flexmw.rate_limiting.limit")
        if limit is None or not decision.allowed:
            return True
        return bool(decision.remaining / decision.limit < facts["flexmw.rate_limiting.remaining"] / limit)

    def _head(self, exchange: Exchange, decision: Decision) -> None:
        quota = Quota(
            limit=decision.limit,
            remaining=decision.remaining,
            reset_at=decision.reset_at,
            window=decision.window,
            wait=None if decision.allowed or self._options.shadow else decision.retry_after,
            policy=decision.policy,
        )
        headers = raw_headers(render(quota, now=self._clock.now(), dialects=self._options.headers))
        if exchange.headers:
            names = {name for name, _ in headers}
            headers += [pair for pair in exchange.headers if pair[0] not in names]
        exchange.headers[:] = headers


async def _value(value: Any) -> Any:
    return await value if isawaitable(value) else value


async def _cost(value: Any) -> int:
    cost = await _value(value)
    if not _is_cost(cost):
        raise ConfigError("RateLimit(cost=...)", cost, "the function to return a whole number, at least 0")
    return int(cost)


def _is_cost(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
