"""Limits of websocket messages: the option ``messages``.

A message that the client sends is counted when the app receives it. A message over the limit does not reach the app:
the connection is closed with 1008 (policy violation), or the application's function returns a reply and the connection
stays open.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeAlias

from flexmw.errors import APIError, RateLimitExceeded
from flexmw.kit.app_function import finished
from flexmw.kit.asgi import POLICY_VIOLATION, ASGIApp, Message, Receive, Scope, Send, WrappingApp
from flexmw.kit.exchange import Exchange
from flexmw.ratelimit.core import SECOND, Check
from flexmw.ratelimit.headers import RESULT, Reporter
from flexmw.ratelimit.plan import EXEMPT_OPTION, Plan
from flexmw.ratelimit.several_apps import MarkedApp, is_repeated
from flexmw.ratelimit.shared import Shared

__all__ = ["MessageLimit"]

_TRY_AGAIN_LATER: Final = 1013

_Content: TypeAlias = str | bytes | None
_Writer: TypeAlias = Callable[[Scope, APIError], _Content | Awaitable[_Content]]


class MessageLimit(WrappingApp):
    """An app whose websocket messages are limited. Other requests pass.

    :param plan: the resolved options.
    :param shared: the store, and the caches of callers.
    """

    def __init__(self, plan: Plan, shared: Shared, app: ASGIApp) -> None:
        self.app = app
        self._plan, self._shared = plan, shared
        self._marked_app = MarkedApp(shared.identifier, app)
        self._reporter = Reporter(
            failure_mode=plan.failure.mode, clock=plan.clock, styles=(), shadow=plan.shadow, one_unit=True
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket" or await self._is_exempt(scope):
            await self.app(scope, receive, send)
            return
        if is_repeated(Exchange.of(scope), self._shared.identifier):
            await self.app(scope, receive, send)
            return
        now_us = int(self._plan.clock.monotonic() * SECOND)
        caller, app = await self._shared.identifier.identify(scope, now_us, self._marked_app)
        rates = self._plan.messages
        check = Check(caller.digest, rates, (1,) * len(rates), None, caller.earlier)
        await _Connection(self._plan, self._shared, self._reporter, check, scope, receive, send).run(app)

    async def _is_exempt(self, scope: Scope) -> bool:
        if self._plan.exempt is None:
            return False
        return bool(await finished(self._plan.exempt(scope), EXEMPT_OPTION))


class _ClosedError(OSError):
    """An app sends to a connection that the limiter has closed. It is no failure of the app."""


class _Connection:
    """One websocket."""

    def __init__(
        self, plan: Plan, shared: Shared, reporter: Reporter, check: Check, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._plan, self._backend, self._reporter, self._check = plan, shared.backend, reporter, check
        self._scope, self._receive, self._send = scope, receive, send
        self._exchange = Exchange.of(scope)
        self._is_closed = False

    async def run(self, app: ASGIApp) -> None:
        with suppress(_ClosedError):
            await app(self._scope, self.receive, self.send)

    async def receive(self) -> Message:
        """The app's ``receive``: the next message that is within the limit."""
        while True:
            message = await self._receive()
            if message["type"] != "websocket.receive":
                return message
            error = await self._count()
            if error is None:
                return message
            self._exchange.facts[RESULT] = "rejected"
            write = self._plan.message_refusal
            if write is None:
                return await self._close(error)
            await self._send_refusal(write, error)

    async def send(self, message: Message) -> None:
        """The app's ``send``.

        :raises OSError: the limiter has closed the connection. Servers raise one after a disconnect, and it ends an app
            that sends in a loop.
        """
        if not self._is_closed:
            await self._send(message)
        elif message["type"] == "websocket.send":
            raise _ClosedError("the connection was closed because of its message limit")

    async def _count(self) -> APIError | None:
        """The error of a message over the limit."""
        start = self._plan.clock.monotonic()
        outcome = await self._backend.decide(self._check)
        result = outcome.result
        if self._exchange.observers:
            name = self._check.rates[0].name if result is None else result.rate.name
            duration = self._plan.clock.monotonic() - start
            self._reporter.emit(self._exchange, name, self._check.digest, outcome, duration)
        return self._reporter.refusal(result, self._backend.retry_in)

    async def _close(self, error: APIError) -> Message:
        code = POLICY_VIOLATION if isinstance(error, RateLimitExceeded) else _TRY_AGAIN_LATER
        self._is_closed = True
        await self._send({"type": "websocket.close", "code": code, "reason": error.code})
        return {"type": "websocket.disconnect", "code": code, "reason": error.code}

    async def _send_refusal(self, write: _Writer, error: APIError) -> None:
        content = await finished(write(self._scope, error), "RateLimit(message_refusal=...)")
        if content is not None:
            kind = "bytes" if isinstance(content, bytes) else "text"
            await self._send({"type": "websocket.send", kind: content})
