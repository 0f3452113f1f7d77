"""The server face of RateLimit: decide before the app runs, say so on every response."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from inspect import isawaitable
from math import ceil
from typing import TYPE_CHECKING, Any, Final

from flexmw.contract import Quota, render
from flexmw.errors import APIError, ConfigError, RateLimitExceeded, SubsystemOffline
from flexmw.kit.asgi import ASGIApp, Message, Receive, Scope, Send, raw_headers, refuse
from flexmw.kit.exchange import Answer, Exchange
from flexmw.kit.identity import Callers, bearer_token
from flexmw.kit.storage import parse, probe
from flexmw.ratelimit.core import SECOND, Decision, Rate, Verdict
from flexmw.ratelimit.keys import Caller, NewKeys, keyed
from flexmw.ratelimit.ladder import check_loop, policy_of
from flexmw.ratelimit.limiter import Limiter
from flexmw.ratelimit.rules import Rules, exemption
from flexmw.ratelimit.stores import schemes

if TYPE_CHECKING:
    from flexmw.ratelimit.component import RateLimit

__all__ = ["Limited", "settle"]

_STARTS: Final = frozenset({"http.response.start", "websocket.http.response.start", "websocket.accept"})
_ROUNDING: Final = 5e-7
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
        self._plain = tuple(options.headers) == ("seed",)
        self._caller = keyed(options.key, self._callers, "RateLimit(key=...)")
        self._rules = Rules(options.rates, options.limit, clock=clock)
        self._exempt = exemption(options.exempt, "RateLimit(exempt=...)")
        self._policy = policy_of(options.on_store_failure or "local", "RateLimit(on_store_failure=...)")
        longest = max((rate.window for rate in self._rules.known), default=60_000_000)
        self._new_keys = NewKeys(options.new_keys_per_address, longest)
        self.limiter = Limiter(
            options.strategy,
            url,
            policy=self._policy,
            timeout=options.store_timeout,
            clock=clock,
            remembers=isinstance(options.cost, int),
        )
        self._memory = self.limiter.memory
        self._asks_nobody = options.key == "bearer" and not self._rules.asks
        self._static = self._rules.known if options.limit is None else ()

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
        rates: Sequence[Rate] = ()
        digest, now = "", 0
        if self._exempt is None or not await _value(self._exempt(scope)):
            now = int(self._clock.monotonic() * SECOND)
            if self._asks_nobody:
                digest, rates = self._digest(scope, now), self._static or self._rules.fixed(scope)
            else:
                caller = await self._identify(scope, now)
                digest = caller.digest
                rates = await self._rules.of(caller, scope) if self._rules.asks else self._rules.fixed(scope)
                now = int(self._clock.monotonic() * SECOND)
        if not rates:
            exchange.facts.setdefault(_RESULT, "bypassed")
            await self.app(scope, receive, send)
            return
        cost = self._options.cost
        if isinstance(cost, int):
            reserved = cost
        else:
            reserved, now = await _cost(cost(scope)), int(self._clock.monotonic() * SECOND)
        failures: list[Exception] = []
        found: Verdict | None
        if self._memory is not None:
            found, degraded = self._memory.decide_now(digest, rates, reserved, now), False
        else:
            found, degraded = await self.limiter.decide(digest, rates, reserved, failures.append)
        self._note(exchange, found, degraded, rates)
        if exchange.heard_by:
            self._tell(exchange, found, degraded, rates, self._clock.monotonic() - now / SECOND, failures)
        if (found is None or found.wait) and not self._options.shadow and (error := self._refusal(found)) is not None:
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
            if ticket.actual != reserved and found is not None and not found.wait:
                await self.limiter.give(digest, rates, reserved - ticket.actual, failures.append)

    async def close(self) -> None:
        """Close the store's connections of this event loop; done by itself when a lifespan ends."""
        await self.limiter.close()

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

    async def _identify(self, scope: Scope, now: int) -> Caller:
        caller = await self._caller(scope)
        if caller.kind != "key" or caller.proven or self._new_keys.knows(caller.digest, now):
            return caller
        address = self._callers.of_address(scope)
        if address.kind == "shared" or self._new_keys.admits(caller.digest, address.digest, now):
            return caller
        return Caller(address.kind, address.digest, self._callers.address(scope) or "")

    def _digest(self, scope: Scope, now: int) -> str:
        """:meth:`_identify` for bearer tokens, without anything that could be waited for."""
        token = bearer_token(scope)
        if token is None:
            return self._callers.of_address(scope).digest
        digest = self._callers.digest_of_key(token)
        if not self._new_keys.knows(digest, now):
            address = self._callers.of_address(scope)
            if address.kind != "shared" and not self._new_keys.admits(digest, address.digest, now):
                return address.digest
        return digest

    def _refusal(self, found: Verdict | None) -> APIError | None:
        if found is not None:
            return RateLimitExceeded(found.wait / SECOND)
        if self._policy.mode == "open":
            return None
        return SubsystemOffline("The rate limiter", max(1.0, self.limiter.retry_in))

    def _note(self, exchange: Exchange, found: Verdict | None, degraded: bool, rates: Sequence[Rate]) -> None:
        """Leave headers and facts on the exchange."""
        facts = exchange.facts
        if found is None:
            facts[_RESULT] = self._result(found, degraded)
            facts["flexmw.rate_limiting.policy"] = rates[0].name
        elif not facts or found.wait or _is_tighter(found, facts):
            facts[_RESULT] = self._result(found, degraded)
            facts["flexmw.rate_limiting.policy"] = found.rate.name
            facts["flexmw.rate_limiting.limit"] = found.rate.limit
            facts["flexmw.rate_limiting.remaining"] = found.remaining
            if found.wait:
                facts["flexmw.rate_limiting.retry_after"] = found.wait / SECOND
            self._head(exchange, found)

    def _result(self, found: Verdict | None, degraded: bool) -> str:
        allowed = self._policy.mode == "open" if found is None else not found.wait
        return _RESULTS[allowed, degraded]

    def _tell(
        self,
        exchange: Exchange,
        found: Verdict | None,
        degraded: bool,
        rates: Sequence[Rate],
        duration: float,
        failures: Sequence[Exception],
    ) -> None:
        result, policy = self._result(found, degraded), (found.rate if found else rates[0]).name
        for error in failures:
            exchange.tell(
                "flexmw.rate_limiting.storage_failed", {"exception": error, "policy": policy, "result": result}
            )
        exchange.tell(
            "flexmw.rate_limiting.decided",
            {
                "decision": None if found is None else self.limiter.decision(found, degraded),
                "result": result,
                "policy": policy,
                "duration": duration,
                "error_type": type(failures[0]).__qualname__ if failures else None,
                "shadow": self._options.shadow,
            },
        )

    def _head(self, exchange: Exchange, found: Verdict) -> None:
        now, rate = self._clock.now(), found.rate
        reset_at = now + found.reset / SECOND
        if self._plain and not found.wait and not exchange.headers:
            # What `render` would say, on the shortest way: this is done for nearly every request.
            exchange.headers += (
                (b"x-ratelimit-limit-requests", b"%d" % rate.limit),
                (b"x-ratelimit-remaining-requests", b"%d" % found.remaining),
                (b"x-ratelimit-reset-requests", b"%d" % ceil(reset_at - _ROUNDING)),
            )
            return
        quota = Quota(
            limit=rate.limit,
            remaining=found.remaining,
            reset_at=reset_at,
            window=rate.seconds,
            wait=None if not found.wait or self._options.shadow else found.wait / SECOND,
            policy=rate.name,
        )
        headers = raw_headers(render(quota, now=now, dialects=self._options.headers))
        if exchange.headers:
            names = {name for name, _ in headers}
            headers += [pair for pair in exchange.headers if pair[0] not in names]
        exchange.headers[:] = headers


def _is_tighter(found: Verdict, facts: Mapping[str, Any]) -> bool:
    """Whether a decision leaves less than that of another limiter around this one."""
    limit = facts.get("flexmw.rate_limiting.limit")
    if limit is None:
        return True
    return bool(found.remaining / found.rate.limit < facts["flexmw.rate_limiting.remaining"] / limit)


async def _value(value: Any) -> Any:
    return await value if isawaitable(value) else value


async def _cost(value: Any) -> int:
    cost = await _value(value)
    if not _is_cost(cost):
        raise ConfigError("RateLimit(cost=...)", cost, "the function to return a whole number, at least 0")
    return int(cost)


def _is_cost(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
