"""What a test of the limiter needs beside :mod:`tests.app_calls`: limiters, and the checks of a store."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from inspect import isawaitable
from typing import Any, TypeAlias

import pytest
from starlette.types import ASGIApp

from flexmw.kit.counters import CounterTable
from flexmw.kit.expiring import ExpiringTable
from flexmw.kit.loop_time import StoreTimeout
from flexmw.ratelimit import RateLimit, fallback
from flexmw.ratelimit.algorithms import Algorithm
from flexmw.ratelimit.asgi import RateLimitMiddleware
from flexmw.ratelimit.core import Check, Rate
from flexmw.ratelimit.stores.memory import Table
from tests.app_calls import AppResponse as Answer
from tests.app_calls import ask, call, scope_of
from tests.app_calls import responding as answering

__all__ = [
    "Answer",
    "Make",
    "OneCaller",
    "answering",
    "ask",
    "awaited",
    "call",
    "check_of",
    "count_timeouts",
    "limited",
    "limiters",
    "scope_of",
]

Make: TypeAlias = Callable[..., RateLimitMiddleware]


def limited(*rates: str, app: ASGIApp | None = None, **options: Any) -> RateLimitMiddleware:
    """A limiter around an app, which responds with 200 unless another one is given."""
    made = RateLimit(*rates, **options).asgi(app or answering())
    assert isinstance(made, RateLimitMiddleware)
    return made


def count_timeouts(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time limits, in seconds, of the waits for a store that end without a reply from now on."""
    waits: list[float] = []

    class Counted(StoreTimeout):
        def __exit__(self, *details: Any) -> None:
            try:
                super().__exit__(*details)
            except TimeoutError:
                waits.append(self._seconds)
                raise

    monkeypatch.setattr(fallback, "StoreTimeout", Counted)
    return waits


@asynccontextmanager
async def limiters(**defaults: Any) -> AsyncGenerator[Make]:
    """Makes limiters as :func:`limited` does, with some options by default, and closes their connections at the end."""
    apps: list[RateLimitMiddleware] = []

    def make(*rates: str, app: ASGIApp | None = None, **options: Any) -> RateLimitMiddleware:
        apps.append(limited(*rates, app=app, **defaults | options))
        return apps[-1]

    yield make
    for made in apps:
        await made.close()


def check_of(digest: str, rates: tuple[Rate, ...], cost: int | Sequence[int] = 1, **more: Any) -> Check:
    """What a store is asked: one cost in every rate, or one for each."""
    costs = (cost,) * len(rates) if isinstance(cost, int) else tuple(cost)
    return Check(digest, rates, costs, **more)


async def awaited(value: Any) -> Any:
    """What a method returns, of a store in this process or over a network."""
    return await value if isawaitable(value) else value


class OneCaller:
    """The state of one caller in memory, where :attr:`Algorithm.hit` changes it.

    :param state: the state at the beginning; ``None`` for a caller who was never seen.
    """

    def __init__(self, algorithm: Algorithm, state: Any = None) -> None:
        self._algorithm = algorithm
        self._table: Table = CounterTable(10**18) if algorithm.in_words else ExpiringTable(10**18)
        self._table.put("caller", state, 0)

    @property
    def state(self) -> Any:
        return self._table.get("caller", 0)

    def hit(self, now_us: int, rate: Rate, cost: int) -> tuple[int, int, int]:
        """Wait, remaining and reset."""
        states, index = self._table.locate("caller", 0)
        return self._algorithm.hit(states, index, now_us, rate, cost)
