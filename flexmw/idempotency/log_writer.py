"""Copy the log of a running response to the store, from where other processes send it.

A write costs a command of the store, so the writer writes by demand: once a second, or at 16 KiB, while nobody follows;
after 50 milliseconds while somebody does, and for three seconds more. The chunks of the app wait for none of this: the
writer is a task beside the app. A stream has a task of its own, which ends with it, and not a part of one timer for all
streams: a store that is slow for one key must not hold back the others.

All writes go through the lock of the claim. The end of a log is not written: the record that is stored then has the
whole response, and deletes the log in the same step.
"""

from __future__ import annotations

from math import inf
from typing import Final

import anyio

from flexmw.idempotency.claim import Claim, TakenOver
from flexmw.idempotency.log import ResponseLog
from flexmw.idempotency.log_head import LogHead
from flexmw.idempotency.stores import LogStore
from flexmw.kit.clock import Clock

__all__ = ["LogWriter", "log_writer"]

_SLOW_SECONDS: Final = 1.0
"""Seconds between two writes while nobody follows, and after a write that has failed."""

_FAST_SECONDS: Final = 0.05
"""Seconds between two writes while somebody follows."""

_FAST_FOR_SECONDS: Final = 3.0
"""Seconds for which the writer goes on as if somebody followed, after a reader has last asked."""

_TICK_SECONDS: Final = 0.25
"""Seconds between two looks at how much is to be written."""

_BATCH_BYTES: Final = 16 * 1024
"""Bytes that are written at once although nobody follows."""

_LONGEST_WRITE_BYTES: Final = 1024 * 1024
"""Bytes of one write at most."""


class LogWriter:
    """Copies one log to the store. Used once.

    :param claim: the claim under which the response is made, in a store that has logs.
    :param log: the log of the response in this process.
    :param clock: measures the pauses.
    """

    __slots__ = ("_claim", "_clock", "_fast_until", "_log", "_pause", "_written", "_written_at")

    def __init__(self, claim: Claim, log: ResponseLog, clock: Clock) -> None:
        self._claim, self._log, self._clock = claim, log, clock
        self._written = 0
        self._written_at = self._fast_until = -inf
        self._pause: anyio.CancelScope | None = None

    async def run(self) -> None:
        """Copy until the log has ended, is not kept any more, or another attempt has taken the key over."""
        while await self._wait():
            try:
                if not self._log.is_continuable:
                    await self._close()
                    return
                if self._is_due():
                    await self._write()
            except TakenOver:
                return
            except Exception:
                # The guard around the store has logged it. What is not written now is written later.
                await self._clock.asleep(_SLOW_SECONDS)

    def hurry(self) -> None:
        """Write soon: the first reader has left, and may come back to another process."""
        self._fast_until = self._clock.monotonic() + _FAST_FOR_SECONDS
        if self._pause is not None:
            self._pause.cancel()

    async def _wait(self) -> bool:
        """Wait until it is time for the next write. Returns False once the log has ended: the record has it all.

        The log wakes nobody for this: a task that is woken by each chunk would cost more than the chunk.
        """
        clock, log = self._clock, self._log
        due_at = clock.monotonic() + _SLOW_SECONDS
        with anyio.CancelScope() as self._pause:
            while not self._is_over() and clock.monotonic() < min(due_at, self._fast_until):
                await clock.asleep(_FAST_SECONDS)
                if log.size > self._written:
                    break
            else:
                while not self._is_over() and log.size - self._written < _BATCH_BYTES:
                    rest = due_at - clock.monotonic()
                    if rest <= 0:
                        break
                    await clock.asleep(min(rest, _TICK_SECONDS))
        self._pause = None
        return not log.is_ended

    def _is_over(self) -> bool:
        return self._log.is_ended or not self._log.is_continuable

    def _is_due(self) -> bool:
        """Whether there is something to write. While somebody follows a silent log, an empty write once a second asks
        whether somebody still does."""
        if self._written < self._log.size:
            return True
        now = self._clock.monotonic()
        return now < self._fast_until and now - self._written_at >= _SLOW_SECONDS

    async def _write(self) -> None:
        log = self._log
        data = log.read(self._written, _LONGEST_WRITE_BYTES)
        head = b"" if self._written else LogHead(log.status, log.headers).encode()
        appended = await self._claim.append(self._written, data, head=head)
        self._written = min(appended.size, log.size)
        self._written_at = self._clock.monotonic()
        if appended.wanted < _FAST_FOR_SECONDS:
            wanted_at = self._written_at - appended.wanted
            self._fast_until = max(self._fast_until, wanted_at + _FAST_FOR_SECONDS)
            log.wanted_at = max(log.wanted_at, wanted_at)

    async def _close(self) -> None:
        """Close the log in the store: the response is too long to be kept, so its followers must not wait."""
        log = self._log
        for _ in range(2):
            head = b"" if self._written else LogHead(log.status, log.headers).encode()
            size = self._written
            self._written = (await self._claim.append(size, b"", head=head, last=True)).size
            if self._written == size:
                return


def log_writer(claim: Claim, log: ResponseLog, clock: Clock) -> LogWriter | None:
    """The writer of a log; ``None`` if the store of the claim has no logs."""
    return LogWriter(claim, log, clock) if isinstance(claim.store, LogStore) else None
