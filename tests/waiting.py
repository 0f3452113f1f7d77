"""How long a test waits for something that must happen: one bound for all, which only a failure reaches.

Two cores that carry three test processes stand still for seconds at a time. A bound of five seconds is then a test of
the machine. A shorter time is right only where the test is about that time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any, Final

import redis

__all__ = ["LONGEST_WAIT", "eventually"]

LONGEST_WAIT: Final = 60.0
"""Seconds for a server to start, a thread to end, a response to arrive."""


def eventually(holds: Callable[[], Any], *, pause: float = 0.02) -> Any:
    """Wait until something holds on a server, and return it; errors of redis count as not yet."""
    ends = time.monotonic() + LONGEST_WAIT
    while True:
        with contextlib.suppress(redis.RedisError):
            if value := holds():
                return value
        assert time.monotonic() < ends, f"not within {LONGEST_WAIT:g} seconds"
        time.sleep(pause)
