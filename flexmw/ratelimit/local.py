"""The middleware for the most frequent plans: counted in memory, with one fixed cost and nothing to give back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import isawaitable
from math import floor
from operator import itemgetter
from typing import Any, Final

from flexmw.kit.asgi import ASGIApp, Receive, Scope, Send
from flexmw.kit.cors import is_preflight
from flexmw.kit.exchange import KEY, Exchange, exchange_of, too_late
from flexmw.kit.paths import RequestPredicate
from flexmw.ratelimit.asgi import RateLimitMiddleware, Shared
from flexmw.ratelimit.backend import LocalBackend
from flexmw.ratelimit.callers import BearerDigest
from flexmw.ratelimit.continuations import STREAM_FIELD, ContinuationLane
from flexmw.ratelimit.core import SECOND, CheckOutcome, LimitResult, Rate
from flexmw.ratelimit.headers import PlainReport
from flexmw.ratelimit.plan import Plan
from flexmw.ratelimit.stores.memory import Count, MemoryStore

__all__ = ["LocalRateLimitMiddleware", "middleware"]

_REQUESTS: Final = frozenset({"http", "websocket"})
_NEVER_CONTINUED: Final = frozenset({"GET", "HEAD"})
_NAME: Final = itemgetter(0)


def middleware(plan: Plan, shared: Shared, app: ASGIApp) -> RateLimitMiddleware:
    """The middleware for a plan, around an app: the local one where it can serve the plan."""
    if isinstance(shared.backend, LocalBackend) and not plan.gives_back:
        return LocalRateLimitMiddleware(plan, shared, shared.backend, app)
    return RateLimitMiddleware(plan, shared, app)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What a request needs of its middleware, in one object: Python looks the attributes of a class with
    ``__getattr__`` up anew each time, and finds those of this class at once.

    :param digest: the keyed hash of the caller without a coroutine; ``None`` where identifying needs one.
    :param rate: the only rate of every request; ``None`` where rates differ or are several.
    :param count: counts a request of a caller under ``rate``.
    :param report: reports a request that was admitted under ``rate``; ``None`` for other styles of headers.
    :param judge_key: takes a status as a verdict on the key of a caller.
    """

    app: ASGIApp
    exempt: RequestPredicate | None
    lane: ContinuationLane | None
    monotonic: Callable[[], float]
    digest: BearerDigest | None
    rate: Rate | None
    count: Count | None
    report: PlainReport | None
    judge_key: Callable[[str, int], None]


class LocalRateLimitMiddleware(RateLimitMiddleware):
    """The same middleware for the most frequent plans, at a quarter of the price: counted in memory, with one fixed
    cost and nothing to give back.

    Its ``__call__`` has the same steps. It builds neither a :class:`~flexmw.ratelimit.core.Check` nor an outcome, has
    nothing to undo, and waits for nothing when the caller is known by bearer token or address and no function of the
    application gives the rates. ``benchmarks/ratelimit.py`` measures it, ``benchmarks/bounds.py`` bounds it.
    """

    def __init__(self, plan: Plan, shared: Shared, backend: LocalBackend, app: ASGIApp) -> None:
        super().__init__(plan, shared, app)
        assert plan.pricing.fixed_cost is not None  # noqa: S101
        store = backend.store
        self._hit = store.hit
        self._cost = plan.pricing.fixed_cost
        static = self._static
        rate = static[0] if len(static) == 1 and not static[0].period else None
        self._parts = _Parts(
            app=app,
            exempt=self._exempt,
            lane=self._lane,
            monotonic=self._monotonic,
            digest=self._digest,
            rate=rate,
            count=store.counter(rate, self._cost) if rate is not None and isinstance(store, MemoryStore) else None,
            report=None if rate is None else self._reporter.plain(rate),
            judge_key=self._judge_known,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts = self._parts
        if scope["type"] not in _REQUESTS:
            await self._lifespan(scope, receive, send)
            return
        exchange: Exchange = scope.get(KEY) or exchange_of(scope)
        method = scope.get("method")
        if (parts.exempt is not None and await _value(parts.exempt(scope))) or (
            method == "OPTIONS" and is_preflight(scope)
        ):
            await self._bypass(scope, receive, send, exchange, self.app)
            return
        if (
            (lane := parts.lane) is not None
            and method not in _NEVER_CONTINUED
            and STREAM_FIELD in map(_NAME, scope["headers"])
            and await lane.takes(scope)
        ):
            await self._continue(lane, scope, receive, send, exchange)
            return
        app = parts.app
        start = parts.monotonic()
        start_us = floor(start * SECOND)
        digest = None if parts.digest is None else parts.digest(scope, start_us)
        if digest is not None and (count := parts.count) is not None:
            wait_us, remaining, reset_us = count(digest, start_us)
            if (report := parts.report) is not None and not (
                wait_us or exchange.observers or exchange.headers or exchange.facts
            ):
                report(exchange, remaining, reset_us)
                result = None
            else:
                assert parts.rate is not None  # noqa: S101
                result = LimitResult(parts.rate, remaining, wait_us, reset_us)
        else:
            if digest is None:
                caller, app = await self._identifier.identify(scope, start_us, app)
                digest = caller.digest
                rates = self._static or await self._rates.of(caller, scope)
                start = parts.monotonic()
                start_us = floor(start * SECOND)
            else:
                rates = self._static or self._rates.by_path(scope)
            if not rates:
                await self._bypass(scope, receive, send, exchange, app)
                return
            result = self._hit(digest, rates, self._cost, start_us)
        if result is not None:
            self._reporter.add(exchange, result, False)
            if exchange.observers:
                duration = parts.monotonic() - start
                self._reporter.emit(exchange, result.rate.name, digest, CheckOutcome(result), duration)
            if result.wait_us and await self._refuse(scope, send, exchange, result):
                return
        try:
            if exchange.headers_claimed:
                await app(scope, receive, send)
                if exchange.error_outcome is not None:
                    parts.judge_key(digest, exchange.error_outcome.status)
                return
            exchange.headers_claimed = True
            exchange.judged_key = parts.judge_key, digest
            exchange.forward = send
            try:
                await app(scope, receive, exchange.send)
            finally:
                exchange.headers_claimed = False
                exchange.forward = too_late
                exchange.judged_key = None
        except Exception as error:
            parts.judge_key(digest, exchange.map_exception(error).status)
            raise


async def _value(value: Any) -> Any:
    return await value if isawaitable(value) else value
