"""The middleware for the most frequent plans: counted in memory, with one fixed cost and nothing to give back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import floor
from operator import itemgetter
from typing import Final

from flexmw.kit.app_function import finished
from flexmw.kit.asgi import ASGIApp, Receive, Scope, Send
from flexmw.kit.cors import is_preflight
from flexmw.kit.exchange import KEY, Exchange, exchange_of, new_exchange, too_late, unclaimed
from flexmw.kit.paths import RequestPredicate
from flexmw.ratelimit.asgi import RateLimitMiddleware
from flexmw.ratelimit.backend import LocalBackend
from flexmw.ratelimit.callers import BearerDigest
from flexmw.ratelimit.continuations import STREAM_FIELD, ContinuationLane
from flexmw.ratelimit.core import SECOND, Check, CheckOutcome
from flexmw.ratelimit.direct import DirectLimiter
from flexmw.ratelimit.ledger import BalanceUnknown
from flexmw.ratelimit.plan import EXEMPT_OPTION, Plan
from flexmw.ratelimit.recent_keys import Place
from flexmw.ratelimit.several_apps import is_repeated, join
from flexmw.ratelimit.shared import Shared
from flexmw.ratelimit.stores import LocalStore
from flexmw.ratelimit.stores.memory import MemoryStore

__all__ = ["LocalRateLimitMiddleware", "admit_none", "middleware"]

_REQUESTS: Final = frozenset({"http", "websocket"})
_DIRECT_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
"""Methods of requests that are never preflights. A websocket has no method."""

_NEVER_CONTINUED: Final = frozenset({"GET", "HEAD"})
_NAME: Final = itemgetter(0)


def middleware(plan: Plan, shared: Shared, app: ASGIApp) -> RateLimitMiddleware:
    """The middleware for a plan, around an app: the local one where it can serve the plan."""
    if isinstance(shared.backend, LocalBackend) and not plan.gives_back:
        return join(shared.apps, LocalRateLimitMiddleware(plan, shared, shared.backend, app))
    return join(shared.apps, RateLimitMiddleware(plan, shared, app))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What a request needs of its middleware, in one object: Python looks the attributes of a class with
    ``__getattr__`` up anew each time, and finds those of this class at once.

    :param digest: the keyed hash of the caller without a coroutine; ``None`` where identifying needs one.
    :param admit: admits most requests: :meth:`DirectLimiter.admit`. It is :func:`admit_none` where rates differ or are
        several, or headers have other styles.
    :param methods: the methods of requests that ``admit`` may admit: neither exempt nor a preflight.
    :param methods_of_streams: the same of requests that may continue a stream, which their headers say.
    :param judge_key: takes a status as a verdict on the key of a caller.
    """

    app: ASGIApp
    exempt: RequestPredicate | None
    lane: ContinuationLane | None
    monotonic: Callable[[], float]
    digest: BearerDigest | None
    admit: Callable[[Scope, Exchange, Send | None], Place | None]
    methods: frozenset[str]
    methods_of_streams: frozenset[str]
    judge_key: Callable[[str, int], None]


def admit_none(scope: Scope, exchange: Exchange, send: Send | None) -> Place | None:
    """Stands for :meth:`DirectLimiter.admit` where it does not serve the plan: every request takes the general way."""
    return None


class LocalRateLimitMiddleware(RateLimitMiddleware):
    """The middleware for the most frequent plans, with a quarter of the CPU time: counted in memory, with one fixed
    cost and nothing to give back.

    Most requests take the fast path (:class:`~flexmw.ratelimit.direct.DirectLimiter`). :meth:`_admit` decides about
    all others by the steps of the general middleware. It builds neither a :class:`~flexmw.ratelimit.core.Check` nor an
    outcome, has nothing to undo, and waits for nothing when the caller is known by bearer token or address and no
    function of the application gives the rates. ``benchmarks/ratelimit.py`` measures it, ``benchmarks/bounds.py``
    bounds it.
    """

    def __init__(self, plan: Plan, shared: Shared, backend: LocalBackend, app: ASGIApp) -> None:
        super().__init__(plan, shared, app)
        assert plan.pricing.fixed_cost is not None  # noqa: S101
        store = backend.store
        self._hit = store.hit
        self._cost = plan.pricing.fixed_cost
        direct = self._direct(store)
        methods = frozenset[str]() if direct is None or self._exempt is not None else _DIRECT_METHODS
        methods_of_streams = frozenset[str]() if self._lane is None else methods - _NEVER_CONTINUED
        self._parts = _Parts(
            app=app,
            exempt=self._exempt,
            lane=self._lane,
            monotonic=self._monotonic,
            digest=self._digest,
            admit=admit_none if direct is None else direct.admit,
            methods=methods - methods_of_streams,
            methods_of_streams=methods_of_streams,
            judge_key=self._judge_known,
        )

    def _direct(self, store: LocalStore) -> DirectLimiter | None:
        static, identifier = self._static, self._identifier
        if self._digest is None or not isinstance(store, MemoryStore) or len(static) != 1 or static[0].period:
            return None
        if not store.counts_in_place(static[0]):
            return None
        report = self._reporter.plain(static[0])
        if report is None:
            return None
        return DirectLimiter(
            identifier.hasher,
            identifier.guard,
            store,
            static[0],
            self._cost,
            report,
            self._plan.clock,
            self._judge_known,
        )

    def expect_repetitions(self) -> None:
        super().expect_repetitions()
        # The fast path asks nothing, so no request may take it.
        self._parts = replace(
            self._parts, app=self._marked_app or self.app, methods=frozenset(), methods_of_streams=frozenset()
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts = self._parts
        if KEY not in scope and scope.get("method") in parts.methods:
            # Most requests. As below, without the questions that have one answer for an exchange that is new.
            admit, app, new = parts.admit, parts.app, Exchange()
            place = admit(scope, new, send)
            if place is not None:
                try:
                    await app(scope, receive, new.send)
                except Exception as error:
                    judge_key, digest = place.judged_key
                    judge_key(digest, new.map_exception(error).status)
                    raise
                finally:
                    new.headers_claimed = False
                    new.forward = too_late
                    new.judged_key = None
                return
        else:
            place = self._place(scope)
        if place is not None:
            exchange, digest, app = scope[KEY], place.judged_key[1], parts.app
        else:
            admitted = await self._admit(scope, receive, send)
            if admitted is None:
                return
            exchange, digest, app = admitted
        try:
            if exchange.headers_claimed:
                await app(scope, receive, send)
                if exchange.error_outcome is not None:
                    parts.judge_key(digest, exchange.error_outcome.status)
                return
            exchange.headers_claimed = True
            exchange.judged_key = parts.judge_key, digest
            if exchange.forward is unclaimed:
                exchange.forward, send = send, exchange.send
            else:
                send = exchange.further_send(send)
            try:
                await app(scope, receive, send)
            finally:
                exchange.headers_claimed = False
                exchange.forward = too_late
                exchange.judged_key = None
        except Exception as error:
            parts.judge_key(digest, exchange.map_exception(error).status)
            raise

    def _place(self, scope: Scope) -> Place | None:
        """Admit a request that has an exchange, or that may continue a stream. ``None``: it was not counted."""
        parts, method = self._parts, scope.get("method")
        if method in parts.methods or (method in parts.methods_of_streams and not _has_stream_field(scope)):
            admit, exchange = parts.admit, exchange_of(scope)
            if not (exchange.observers or exchange.headers or exchange.facts):
                return admit(scope, exchange, None)
        return None

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> tuple[Exchange, str, ASGIApp] | None:
        """Decide about any request.

        :returns: the exchange, the digest of the caller, and the app that the request is given to. ``None``: the
            request has been refused, or was given to the app without a limit.
        """
        parts = self._parts
        if scope["type"] not in _REQUESTS:
            await self._lifespan(scope, receive, send)
            return None
        exchange: Exchange = scope.get(KEY) or new_exchange(scope)
        method, app = scope.get("method"), parts.app
        if (parts.exempt is not None and await finished(parts.exempt(scope), EXEMPT_OPTION)) or (
            method == "OPTIONS" and is_preflight(scope)
        ):
            await self._bypass(scope, receive, send, exchange, self.app)
            return None
        if self._may_repeat and is_repeated(exchange, self.shared):
            await self.app(scope, receive, send)
            return None
        if (
            (lane := parts.lane) is not None
            and method not in _NEVER_CONTINUED
            and _has_stream_field(scope)
            and await lane.takes(scope)
        ):
            await self._continue(lane, scope, receive, send, exchange)
            return None
        start = parts.monotonic()
        start_us = floor(start * SECOND)
        if parts.exempt is not None and not (exchange.observers or exchange.headers or exchange.facts):
            place = parts.admit(scope, exchange, None)
            if place is not None:
                return exchange, place.judged_key[1], app
        digest = None if parts.digest is None else parts.digest(scope, start_us)
        if digest is None:
            caller, app = await self._identifier.identify(scope, start_us, app)
            digest = caller.digest
            try:
                rates = self._static or await self._rates.of(caller, scope)
            except BalanceUnknown:
                await self._without_balance(scope, receive, send, exchange, app)
                return None
            start = parts.monotonic()
            start_us = floor(start * SECOND)
        else:
            rates = self._static or self._rates.by_path(scope)
        if not rates:
            await self._bypass(scope, receive, send, exchange, app)
            return None
        result = self._hit(digest, rates, self._cost, start_us)
        check = Check(digest, rates, (self._cost,) * len(rates)) if result.wait_us else None
        self._reporter.add(exchange, result, False, check)
        if exchange.observers:
            duration = parts.monotonic() - start
            self._reporter.emit(exchange, result.rate.name, digest, CheckOutcome(result), duration)
        if check is not None and await self._refuse(scope, send, exchange, result, check):
            return None
        return exchange, digest, app


def _has_stream_field(scope: Scope) -> bool:
    return STREAM_FIELD in map(_NAME, scope["headers"])
