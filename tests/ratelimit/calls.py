"""What a test of the limiter needs beside :mod:`tests.app_calls`: the checks of a store."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import isawaitable
from typing import Any

from flexmw.ratelimit.core import Check, Rate
from tests.app_calls import AppResponse as Answer
from tests.app_calls import ask, call, scope_of
from tests.app_calls import responding as answering

__all__ = ["Answer", "answering", "ask", "awaited", "call", "check_of", "scope_of"]


def check_of(digest: str, rates: tuple[Rate, ...], cost: int | Sequence[int] = 1, **more: Any) -> Check:
    """What a store is asked: one cost in every rate, or one for each."""
    costs = (cost,) * len(rates) if isinstance(cost, int) else tuple(cost)
    return Check(digest, rates, costs, **more)


async def awaited(value: Any) -> Any:
    """What a method returns, of a store in this process or over a network."""
    return await value if isawaitable(value) else value
