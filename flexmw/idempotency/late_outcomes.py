"""Late outcomes: write the outcomes that the store did not take while their requests ran.

The client of such a request has its response. Servers and test clients that wait for the end of the ASGI call must not
wait for the store besides, so each outcome is written by a background task in the event loop of its request. The key
keeps its heartbeats until the write has succeeded or is given up. What is given up is logged, because the key of an
execution without a stored outcome becomes ``unknown``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from anyio.lowlevel import checkpoint

from flexmw.idempotency.background import BackgroundTask, start_in_background
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.log_limit import LogLimit

__all__ = ["DRAIN_SECONDS", "LateOutcomes"]

_LOGGER: Final = logging.getLogger("flexmw.idempotency")

DRAIN_SECONDS: Final = 2.0
"""Seconds that the end of an app waits for its late outcomes. A server gives its apps some seconds to end."""

_DRAIN_PAUSE: Final = 0.05
"""Seconds between two looks at whether all late outcomes are written."""

_LAST_TURNS: Final = 20
"""Turns of the event loop in which cancelled tasks end, before the store is closed."""

_NO_STORE: Final = "the store did not take it"
_APP_ENDED: Final = "the app ended before the store took it"
_LOOP_ENDED: Final = "the event loop ended before the store took it"


class _LateOutcome:
    """One outcome, and the task that writes it.

    :ivar reason: why the outcome is lost if the task ends now.
    """

    __slots__ = ("end", "reason", "task", "write")

    task: BackgroundTask

    def __init__(self, write: Callable[[], Coroutine[Any, Any, bool]], end: Callable[[], None]) -> None:
        self.write, self.end = write, end
        self.reason = _LOOP_ENDED


class LateOutcomes:
    """The late outcomes of one app, in all its event loops.

    :param clock: measures the time of :meth:`drain`.
    """

    __slots__ = ("_clock", "_lines", "_outcomes")

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._outcomes: set[_LateOutcome] = set()
        self._lines = LogLimit(burst=5, per_second=1 / 60, monotonic=clock.monotonic)

    def __len__(self) -> int:
        return len(self._outcomes)

    def add(self, write: Callable[[], Coroutine[Any, Any, bool]], end: Callable[[], None]) -> None:
        """Write an outcome in the background.

        :param write: writes the outcome, and tries again for a while. Returns whether the store has it.
        :param end: called when the outcome is written or lost.
        """
        self._lose_those_of_closed_loops()
        outcome = _LateOutcome(write, end)
        self._outcomes.add(outcome)
        outcome.task = start_in_background(lambda: self._carry_out(outcome))

    async def drain(self) -> None:
        """Wait until the store has all outcomes, for :data:`DRAIN_SECONDS` at most. The others are lost."""
        self._lose_those_of_closed_loops()
        clock = self._clock
        ends = clock.monotonic() + DRAIN_SECONDS
        while self._outcomes and clock.monotonic() < ends:
            await clock.asleep(_DRAIN_PAUSE)
        for outcome in tuple(self._outcomes):
            outcome.reason = _APP_ENDED
            outcome.task.cancel()
        for _ in range(_LAST_TURNS):
            if not self._outcomes:
                break
            await checkpoint()

    async def _carry_out(self, outcome: _LateOutcome) -> None:
        is_written = False
        try:
            is_written = await outcome.write()
            outcome.reason = _NO_STORE
        finally:
            # Also reached where the event loop is closed in the middle: the interpreter ends the coroutine then.
            self._end(outcome, is_written=is_written)

    def _end(self, outcome: _LateOutcome, *, is_written: bool) -> None:
        if outcome not in self._outcomes:
            return
        self._outcomes.discard(outcome)
        if not is_written and (left_out := self._lines.admit()) is not None:
            _LOGGER.warning(
                "The outcome of an execution is lost: %s. Its key counts as unknown once its lease has run out "
                "(and those of %d executions before it).",
                outcome.reason,
                left_out,
            )
        outcome.end()

    def _lose_those_of_closed_loops(self) -> None:
        for outcome in tuple(self._outcomes):
            if outcome.task.is_lost():
                with suppress(RuntimeError):  # who waited in the event loop for the end cannot be woken any more
                    self._end(outcome, is_written=False)
