"""One limiter around several apps: a request that passes it at two depths is counted once.

An app and an app that is mounted in it are the usual case. Where each middleware counted, a request took two of its
limit, and with ``concurrency=1`` it was refused for the slot that it held itself.
"""

from __future__ import annotations

from typing import Protocol, TypeVar
from weakref import WeakSet

from flexmw.kit.exchange import Exchange

__all__ = ["Apps", "is_repeated", "join"]


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
    """Whether the request has passed this limiter further outside. Notes that it has passed it now.

    :param limiter: an object that all middleware objects of the limiter have in common.
    """
    passed: tuple[object, ...] = getattr(exchange, "checks", ())
    if any(earlier is limiter for earlier in passed):
        return True
    exchange.checks = (*passed, limiter)
    return False
