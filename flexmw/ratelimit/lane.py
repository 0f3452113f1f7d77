"""When a client may send its next request: what the responses of one origin told one credential. Pure.

>>> lane = Lane(patience=5.0)
>>> lane.ask(now=0.0), lane.ask(now=0.0) > 0  # the first one goes, others wait for what its answer says
(0.0, True)
>>> lane.answered(sent_at=0.0, now=0.1, seen=Seen(limit=3, remaining=2, reset_after=60.0), wait=None)
>>> [round(lane.ask(now=0.2), 3) for _ in range(3)]
[0.0, 0.0, 59.91]
"""

from __future__ import annotations

from math import ceil
from typing import Final

from flexmw.contract import Seen

__all__ = ["POLL", "Lane"]

POLL: Final = 0.01
"""Seconds after which to ask again while another request is about to tell."""

_MARGIN: Final = 0.01
"""Seconds after the end of a window: whoever comes at that very moment is early where the end is counted in."""


_SETTLING: Final = 1.0
"""Seconds that an evenly spaced request waits at most for the answer to the one before it: two that are sent apart may
arrive together."""


class Lane:
    """Seconds are monotonic. Not safe for threads: its owner holds a lock.

    Limits refill in one of two ways, and nothing on the wire says which: all at once when the window ends (fixed
    windows), or bit by bit (sliding windows, token buckets). After the first window one request finds out: when it
    leaves fewer than all but one, the rest is spaced evenly from then on.
    """

    def __init__(self, *, patience: float) -> None:
        self._patience = patience
        self._heard = False
        self._limit: int | None = None
        self._left = 0
        self._resets_at = 0.0
        self._window = 0.0
        self._told_at = 0.0
        self._blocked_until = 0.0
        self._next_at = 0.0
        self._probe_until = 0.0
        self._rolled_at = 0.0
        self._refills_at_once: bool | None = None
        self._flying = 0

    def ask(self, now: float) -> float:
        """0.0: send it now (and it counts as sent). Else: ask again after so many seconds."""
        wait = self._wait(now)
        if not wait:
            self._flying += 1
        return wait

    def sent(self) -> None:
        """A request was sent without being asked for."""
        self._flying += 1

    def _wait(self, now: float) -> float:
        if now < self._blocked_until:
            return self._blocked_until - now
        if not self._heard:
            return self._probe(now)
        if self._limit is None:
            return 0.0
        if now >= self._resets_at:
            self._roll(now)
        if self._left > 0:
            self._left -= 1
            self._next_at = max(self._next_at, now + self._window / self._limit)
            return 0.0
        if now < self._probe_until:
            return POLL
        if self._refills_at_once is False:
            return self._space(now)
        return self._resets_at - now

    def _probe(self, now: float) -> float:
        if self._flying and now < self._probe_until:
            return POLL
        self._probe_until = now + self._patience
        return 0.0

    def _roll(self, now: float) -> None:
        """The window that was told of is over."""
        if self._limit is None or not self._window:
            return
        self._rolled_at = now
        self._resets_at += self._window * max(1, ceil((now - self._resets_at + 1e-9) / self._window))
        if self._refills_at_once:
            self._left = self._limit
        elif self._refills_at_once is None:
            self._left = 1
            self._probe_until = now + self._patience
        else:
            self._left = 0

    def _space(self, now: float) -> float:
        if now < self._next_at:
            return self._next_at - now
        if self._flying and now < self._next_at + _SETTLING:
            return POLL
        self._next_at = now + self._window / (self._limit or 1) + _MARGIN / 10
        return 0.0

    def answered(self, *, sent_at: float, now: float, seen: Seen | None, wait: float | None) -> None:
        """A response came. ``seen`` is the quota it tells of, ``wait`` what a refusal asks for."""
        self._flying = max(0, self._flying - 1)
        self._heard = True
        if self._limit and self._refills_at_once is False:
            self._next_at = max(self._next_at, now + self._window / self._limit)
        if wait is not None:
            self._blocked_until = max(self._blocked_until, now + wait)
            self._left, self._probe_until = 0, 0.0
            self._refills_at_once = None
            if self._limit is not None:
                self._resets_at = self._blocked_until
            return
        if seen is None or not seen.reset_after or sent_at < self._rolled_at:
            return
        probing, self._probe_until = now < self._probe_until and self._limit is not None, 0.0
        if seen.limit:
            self._limit = seen.limit
        elif self._limit is None:
            self._limit = max(1, seen.remaining + 1)
        room = max(0, seen.remaining - self._flying)
        # What was sent before the last word came may have been counted before it, so it can only lower the room.
        self._left = room if sent_at >= self._told_at else min(self._left, room)
        self._told_at = now
        self._resets_at = now + seen.reset_after + _MARGIN
        self._window = max(self._window, seen.reset_after)
        if probing:
            self._refills_at_once = seen.remaining >= self._limit - 1
            self._next_at = now + self._window / self._limit

    def failed(self) -> None:
        """No response came."""
        self._flying = max(0, self._flying - 1)
        self._probe_until = 0.0
