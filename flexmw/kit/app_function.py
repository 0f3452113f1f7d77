"""The result of a function of the application, plain or async. An async one is logged while it takes long.

An async function has no time limit but its own: nobody but the application knows how long its database may take. A
request that waits for the function looks like a server that hangs, so the log names the function.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from inspect import isawaitable
from typing import Any, Final

import anyio

from flexmw.kit.background import start_in_background
from flexmw.kit.log_limit import LogLimit

__all__ = ["SLOW_SECONDS", "finished"]

SLOW_SECONDS: Final = 5.0
"""Seconds after which a function is logged."""

_limit: Final = LogLimit(burst=5, per_second=1 / 60, monotonic=time.monotonic)


async def finished(value: Any, option: str) -> Any:
    """Return the result of a function, plain or async. A WARNING names an async one that takes more than
    :data:`SLOW_SECONDS`, while it runs.

    :param value: what the function has returned.
    :param option: the option that holds the function, such as ``RateLimit(limit=...)``. The logger is that of the
        component.
    """
    if not isawaitable(value):
        return value
    cancel = _later(partial(_warn, option, getattr(value, "__qualname__", type(value).__qualname__)))
    try:
        return await value
    finally:
        cancel()


def _later(action: Callable[[], None]) -> Callable[[], object]:
    """Call a function after :data:`SLOW_SECONDS`, unless what this returns is called before."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:

        async def wait() -> None:
            await anyio.sleep(SLOW_SECONDS)
            action()

        return start_in_background(wait).cancel
    return loop.call_later(SLOW_SECONDS, action).cancel


def _warn(option: str, name: str) -> None:
    if (left_out := _limit.admit()) is not None:
        logger = logging.getLogger(f"flexmw.{option.partition('(')[0].lower()}")
        logger.warning(
            "%s has waited %g seconds for the function %s of the app, which has no time limit but its own. The request "
            "waits on.%s",
            option,
            SLOW_SECONDS,
            name,
            left_out,
        )
