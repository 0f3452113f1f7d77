"""The ASGI app around a protected app: one :class:`ProtectedRequest` for each request that is protected."""

from __future__ import annotations

from typing import Final

from flexmw.contract.idempotent_stream import STREAM
from flexmw.idempotency.execution import current
from flexmw.idempotency.plan import Plan
from flexmw.idempotency.request import ProtectedRequest, holds
from flexmw.idempotency.response_head import announce_ttl
from flexmw.kit.asgi import Message, Receive, Scope, Send, WrappingApp
from flexmw.kit.cors import is_preflight
from flexmw.kit.exchange import KEY, Exchange, new_exchange, too_late, unclaimed
from flexmw.kit.paths import request_method

__all__ = ["IdempotencyApp"]

_STREAM: Final = STREAM.encode()
_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
"""Methods of requests that the field is ignored on."""


class IdempotencyApp(WrappingApp):
    """An ASGI app whose protected requests are carried out once. Holds no state of any request."""

    def __init__(self, plan: Plan) -> None:
        self.app = plan.app
        self._plan = plan

    async def continues(self, scope: Scope) -> bool:
        """Whether a request only asks for the rest of a response, so that this app never runs the wrapped app for it.

        A RateLimit further outside asks, because such a request is no new one.
        """
        plan = self._plan
        return (
            request_method(scope) in plan.methods - _SAFE_METHODS
            and _STREAM in dict(scope["headers"])
            and not (plan.exempt is not None and await holds(plan.exempt, scope, "exempt"))
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The only attribute that is read here: Python looks those of a class with __getattr__ up anew each time.
        plan = self._plan
        method = scope.get("method")
        if method not in plan.methods or scope["type"] != "http":
            if scope["type"] == "lifespan":
                await plan.lifespans.run(scope, receive, self._closing(send))
                return
            if scope["type"] != "http" or method in _SAFE_METHODS or request_method(scope) not in plan.methods:
                await plan.app(scope, receive, send)
                return
        exchange: Exchange | None = scope.get(KEY)
        if exchange is None and plan.passing is not None and plan.passing.recognises(scope):
            # Most requests. As below, without the steps that do nothing here: the headers of a request that is
            # recognised are a list of pairs of bytes, and an exchange that is new has no headers.
            exchange = scope[KEY] = Exchange()
            exchange.set_up([plan.ttl_header], {}, plan.known_headers, send)
            try:
                await plan.app(scope, receive, exchange.send)
            finally:
                exchange.headers_claimed = False
                exchange.forward = too_late
            return
        if (
            (plan.exempt is not None and await holds(plan.exempt, scope, "exempt"))
            or (exchange is not None and current.get() is not None and _is_claimed(exchange))
            or (method == "OPTIONS" and is_preflight(scope))
        ):
            await plan.app(scope, receive, send)
            return
        if exchange is None:
            is_unkeyed = plan.passing is None and plan.unkeyed is not None and plan.unkeyed.recognises(scope)
            exchange = new_exchange(scope)
        else:
            is_unkeyed = plan.unkeyed is not None and plan.unkeyed.recognises(scope)
        if is_unkeyed:
            announce_ttl(exchange, plan.ttl_header)
        merges, send_body = not exchange.headers_claimed, send
        if merges:
            exchange.headers_claimed = True
            if exchange.forward is unclaimed:
                exchange.forward, send = send, exchange.send
            else:
                send = exchange.further_send(send)
        try:
            if is_unkeyed:
                await plan.app(scope, receive, send)
            else:
                await ProtectedRequest(plan, scope, receive, send, send_body, exchange).run()
        finally:
            if merges:
                exchange.headers_claimed = False
                exchange.forward = too_late

    def _closing(self, send: Send) -> Send:
        """A ``send`` that closes the store when the lifespan of the app ends, after a last time for late outcomes."""

        async def closing(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await self._plan.late_outcomes.drain()
                await self._plan.claims.store.aclose()
            await send(message)

        return closing


def _is_claimed(exchange: Exchange) -> bool:
    """Whether an Idempotency further outside has claimed the request of an exchange."""
    execution = current.get()
    return execution is not None and execution.owner is exchange
