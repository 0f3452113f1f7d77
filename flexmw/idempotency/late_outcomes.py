"""Late outcomes: write the outcomes that the store did not take while their requests ran.

The client of such a request has its response. Servers and test clients that wait for the end of the ASGI call must not
wait for the store besides, so each outcome is written by a background task in the event loop of its request. The key
keeps its heartbeats until the write has succeeded or is given up.

Some adapters run an event loop, or a lifespan, for each call. What is not written when it ends is kept, and the next
protected request of the app writes it before it claims its own key. Each outcome that is kept or given up is logged,
because the key of an execution without a stored outcome becomes ``unknown``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, Final

import anyio

from flexmw.idempotency.signals import Signal
from flexmw.kit.background import BackgroundTask, drain, start_in_background
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.log_limit import LogLimit

__all__ = ["DRAIN_SECONDS", "RESUME_SECONDS", "LateOutcomes"]

_LOGGER: Final = logging.getLogger("flexmw.idempotency")

DRAIN_SECONDS: Final = 2.0
"""Seconds that the end of an app waits for its late outcomes. A server gives its apps some seconds to end."""

RESUME_SECONDS: Final = 0.25
"""Seconds that a request waits for the outcomes that were kept. A store that responds takes less, and the background
tasks go on in any case."""

_MAX_KEPT: Final = 100
"""Outcomes that are kept for the next request at most, each with the body of its response."""

_APP_ENDED: Final = "the app ended before the store took it"
_LOOP_ENDED: Final = "the event loop ended before the store took it"


def _nothing() -> None: ...


class _LateOutcome:
    """One outcome, and the task that writes it.

    :ivar reason: why the outcome is not written if the task ends now.
    """

    __slots__ = ("done", "end", "reason", "task", "write")

    task: BackgroundTask

    def __init__(self, write: Callable[[], Coroutine[Any, Any, bool]], end: Callable[[], None]) -> None:
        self.write, self.end = write, end
        self.reason, self.done = _LOOP_ENDED, Signal()


class LateOutcomes:
    """The late outcomes of one app, in all its event loops.

    :param clock: measures the time of :meth:`drain`.
    :ivar are_late: whether there is any. A request that finds it true calls :meth:`resume`.
    """

    __slots__ = ("_clock", "_kept", "_lines", "_outcomes", "are_late")

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        # Both in the order of time, and the second one of outcomes without a task.
        self._outcomes: dict[_LateOutcome, None] = {}
        self._kept: list[_LateOutcome] = []
        self._lines = LogLimit(burst=5, per_second=1 / 60, monotonic=clock.monotonic)
        self.are_late = False

    def __len__(self) -> int:
        return len(self._outcomes)

    def add(self, write: Callable[[], Coroutine[Any, Any, bool]], end: Callable[[], None]) -> None:
        """Write an outcome in the background.

        :param write: writes the outcome, and tries again for a while. Returns whether the store has it.
        :param end: called when the task ends.
        """
        self._keep_those_of_closed_loops()
        self._start(_LateOutcome(write, end))

    async def resume(self) -> None:
        """Write what was kept, in this event loop, and wait for that for :data:`RESUME_SECONDS` at most."""
        self._keep_those_of_closed_loops()
        kept, self._kept = self._kept, []
        if not kept:
            return
        for outcome in kept:
            outcome.reason, outcome.done = _LOOP_ENDED, Signal()
            self._start(outcome)
        with anyio.move_on_after(RESUME_SECONDS):
            for outcome in kept:
                await outcome.done.wait()

    async def drain(self) -> None:
        """Wait until the store has all outcomes, for :data:`DRAIN_SECONDS` at most. The others are kept."""
        self._keep_those_of_closed_loops()

        def cancel(outcome: _LateOutcome) -> None:
            outcome.reason = _APP_ENDED
            outcome.task.cancel()

        await drain(lambda: self._outcomes, cancel, seconds=DRAIN_SECONDS, clock=self._clock)

    def _start(self, outcome: _LateOutcome) -> None:
        self._outcomes[outcome] = None
        self.are_late = True
        outcome.task = start_in_background(partial(self._carry_out, outcome), reports_loss=True)

    async def _carry_out(self, outcome: _LateOutcome) -> None:
        is_written: bool | None = None
        try:
            is_written = await outcome.write()
        finally:
            # Also reached where the event loop is closed in the middle: the interpreter ends the coroutine then.
            self._end(outcome, is_written=is_written)

    def _end(self, outcome: _LateOutcome, *, is_written: bool | None) -> None:
        """The task of an outcome has ended.

        :param is_written: ``None``: it was cut off.
        """
        if outcome not in self._outcomes:
            return
        del self._outcomes[outcome]
        is_kept = is_written is None and len(self._kept) < _MAX_KEPT
        if is_kept:
            self._kept.append(outcome)
        self.are_late = bool(self._outcomes or self._kept)
        if not is_written and (left_out := self._lines.admit()) is not None:
            self._log(outcome.reason if is_kept else None, left_out)
        end, outcome.end = outcome.end, _nothing
        end()
        outcome.done.set()

    def _log(self, reason: str | None, left_out: str) -> None:
        if reason is None:
            _LOGGER.warning(
                "The outcome of an execution is lost: the store did not take it. Its key counts as unknown once its "
                "lease has run out: look for it with `flexmw keys --state unknown`, and resolve it.%s",
                left_out,
            )
        else:
            _LOGGER.warning(
                "The outcome of an execution is not stored: %s. The next protected request of this process writes it; "
                "without one, its key counts as unknown once its lease has run out.%s",
                reason,
                left_out,
            )

    def _keep_those_of_closed_loops(self) -> None:
        outcomes = tuple(self._outcomes)
        if not outcomes or not outcomes[0].task.is_lost():
            return
        for outcome in outcomes:
            if outcome.task.is_lost():
                with suppress(RuntimeError):  # who waited in the event loop for the end cannot be woken any more
                    self._end(outcome, is_written=None)
