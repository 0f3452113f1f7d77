"""One limiter around several apps: a request that passes it at two depths is counted once.

An app and an app that is mounted in it are the usual case. Where each middleware counted, a request took two of its
limit, and with ``concurrency=1`` it was refused for the slot that it held itself.

A request has the mark of a limiter while the app of the limiter serves it, and no longer. A middleware further outside
may call two limited apps one after the other, or one app again. Both calls count: a mark for the whole request let the
second call pass a limit that had refused the first call.
"""

from __future__ import annotations

from typing import Protocol, TypeVar
from weakref import WeakSet

from flexmw.kit.asgi import ASGIApp, Receive, Scope, Send, WrappingApp
from flexmw.kit.exchange import Exchange, exchange_of

__all__ = ["Apps", "MarkedApp", "is_repeated", "join"]


class _Repeatable(Protocol):
    def expect_repetitions(self) -> None:
        """A request may have passed another middleware of the same limiter: ask :func:`is_repeated`."""
        ...


_Middleware = TypeVar("_Middleware", bound=_Repeatable)

Apps = WeakSet[_Repeatable]
"""The middleware objects of one limiter."""


def join(apps: Apps, middleware: _Middleware) -> _Middleware:
    """Add a middleware object to those of its limiter. A limiter around one app alone never asks about repetitions."""
    apps.add(middleware)
    members = list(apps)
    if len(members) > 1:
        for member in members:
            member.expect_repetitions()
    return middleware


def is_repeated(exchange: Exchange, limiter: object) -> bool:
    """Whether the app of this limiter serves the request already, further outside.

    :param limiter: an object that all middleware objects of the limiter have in common.
    """
    marks: tuple[object, ...] = getattr(exchange, "checks", ())
    return any(mark is limiter for mark in marks)


class MarkedApp(WrappingApp):
    """An app that marks each request while it serves it, for :func:`is_repeated`.

    :param limiter: the mark.
    """

    def __init__(self, limiter: object, app: ASGIApp) -> None:
        self.app = app
        self._limiter = limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange, limiter = exchange_of(scope), self._limiter
        exchange.checks = (*getattr(exchange, "checks", ()), limiter)
        try:
            await self.app(scope, receive, send)
        finally:
            exchange.checks = tuple(mark for mark in exchange.checks if mark is not limiter)
