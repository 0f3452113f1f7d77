"""Helpers for tests that drive a PaceState by hand."""

from __future__ import annotations

from flexmw.pace.core import InFlight, PaceState
from flexmw.pace.window import RateReading

MAX_WAIT = 120.0


def reading_of(limit: int, remaining: int, reset: float) -> RateReading:
    """A reading whose reset is known to the millisecond."""
    return RateReading(limit, remaining, reset_earliest=reset - 0.001, reset_latest=reset, window_above=reset - 0.001)


def turn(state: PaceState, now: float) -> tuple[float, InFlight | None]:
    """Send a request, or give the seconds to wait before the next try; longer waits than MAX_WAIT are ignored."""
    wait = state.wait(now)
    return (wait, None) if 0 < wait <= MAX_WAIT else (0.0, state.start(now))
