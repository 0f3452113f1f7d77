"""One limit as a client knows it: how many more requests the server is certain to admit. Pure.

Three things are certain whatever the server counts with (fixed, sliding or moving windows, a token bucket), because
what a window has left never shrinks but by requests:

- An answer that says ``remaining`` leaves room for so many, less all that may have been counted after it: every other
  request that was not answered when it was sent.
- When a told reset has passed, there is room for one more than before: a window began, or the oldest request left one,
  or a bucket filled up. One goes, and its answer says what there is.
- A sliding window counter frees the requests of its last window one by one. It is the only one that can say so little
  right after a window ended; once it has, and each answer since agrees, its own arithmetic is used, with every request
  in flight taken to be counted as late as possible.

Nothing is deduced from the moment of sending alone: requests that leave apart may arrive together.

>>> account = Account(limit=3)
>>> account.told(Word(3, 2, soonest=59.9, latest=60.0, lasts=60.0), now=0.1, sent_at=0.0, others=0, flying=0)
>>> [account.take(0.2) for _ in range(2)], round(account.wait(0.3, flying=2), 2)
([None, None], 59.83)
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, inf
from typing import Final, NamedTuple

__all__ = ["DRIFT", "MARGIN", "POLL", "Account", "Word"]

POLL: Final = 0.01
"""Seconds after which to ask again while another request is about to tell."""

MARGIN: Final = 0.002
"""Seconds after the end of a window: servers count in whole milliseconds, and some count its last one in."""

DRIFT: Final = 5e-4
"""How much faster than the server's a client's clock may run: what a time server corrects at most."""

_ROUNDING: Final = 1e-6


class Word(NamedTuple):
    """What one answer says of a limit. The window ends ``soonest`` to ``latest`` seconds after the answer came, and
    windows last more than ``lasts``. ``limit`` 0: it is not told. ``moment``: the end was told as one of whole seconds,
    the same in every answer of a window."""

    limit: int
    remaining: int
    soonest: float
    latest: float
    lasts: float
    moment: bool = False


@dataclass(slots=True)
class Account:
    """Seconds are monotonic. ``flying``: the requests whose answer is still to come.

    The told end of the window lies between ``lo`` and ``hi``, and the one before not after ``since``; ``count``
    answers told of it and ``before`` of the one that went before. ``late`` of those came so late that they may have
    been counted after its end, and ``lost`` is how many may have been that nobody heard of. ``windows`` is false
    once the told end has moved on by less than a window: then it is a log or a bucket. ``granted`` says that one
    went because a window had ended, and that it has not been heard since; without any word the next one goes at
    ``again_at``.
    """

    limit: int
    room: int = 0
    window: float = 0.0
    lo: float = -inf
    hi: float = -inf
    since: float = -inf
    granted: bool = False
    granted_at: float = -inf
    again_at: float = inf
    count: int = 0
    before: int = 0
    late: int = 0
    lost: int = 0
    windows: bool = True
    sliding: bool = False
    told_at: float = -inf

    def wait(self, now: float, flying: int) -> float:
        """Seconds until one more may go; 0.0: now."""
        if self.room > 0:
            return 0.0
        if self.sliding:
            return self._slides(now, flying)
        if not self.granted:
            return max(0.0, self.hi - now)
        return POLL if flying else max(0.0, self.again_at - now)

    def take(self, now: float) -> None:
        """One goes."""
        if self.room > 0:
            self.room -= 1
        elif not self.sliding:
            self._grant(now)

    def _grant(self, now: float) -> None:
        self.granted, self.granted_at, self.again_at = True, now, max(now, self.hi) + self.window + MARGIN

    def _slides(self, now: float, flying: int) -> float:
        over = now >= self.hi
        old, new, ends = (self.count, self.lost, self.hi + self.window) if over else (self.before, self.count, self.hi)
        most = self.limit - 1 - new - flying
        if most < 0:
            if over:
                return POLL if flying else max(0.0, self.again_at - now)
            return max(POLL, self.hi - now)
        free_at = ends - (most + 1 - _ROUNDING) * self.window / old if old > most else now
        return 0.0 if free_at <= now else max(POLL / 10, free_at - now)

    def told(self, word: Word, *, now: float, sent_at: float, others: int, flying: int) -> None:
        """An answer told of this limit. ``others``: how many requests may have been counted after it."""
        self.told_at = now
        self.limit = word.limit or max(self.limit, word.remaining + 1)
        self.room = max(self.room, word.remaining - others)
        lo, hi = max(sent_at, now + word.soonest), now + word.latest * (1 + DRIFT) + MARGIN
        was_sliding = self.sliding
        window, jump = float(floor(word.lasts) + 1), hi - self.hi
        took = now - sent_at
        if word.moment and self.window + 0.5 < jump < word.latest + took + 0.5:
            window = float(round(jump))  # whole seconds hide where in a second it ends, but not from one to the next
        if window > self.window:
            self.window, self.sliding = window, False
        self.granted = self.granted and sent_at < self.granted_at
        if lo > self.hi or sent_at >= self.hi:
            self._rolls(word, lo, hi, took, flying)
        elif hi < self.lo:
            self.before += 1
        else:
            self.late += now > self.lo - self.window / 4
            # An end that may have passed already when this was counted is none that makes room for more.
            if self.lo <= now:
                self.hi = max(hi, self.hi)
            elif sent_at >= self.since:
                self.hi = min(hi, self.hi)
            self.lo = max(lo, self.lo)
            self.count += 1
            self.sliding = self.sliding and self._agrees(word, took, flying)
        if was_sliding and not self.sliding:
            self._grant(now)

    def _rolls(self, word: Word, lo: float, hi: float, took: float, flying: int) -> None:
        """The first answer of another window."""
        widths = hi - lo, self.hi - self.lo if self.hi > -inf else 0.0
        jump = hi - self.hi - self.window
        doubt = 0.5 if word.moment else sum(widths)
        self.windows = self.windows and jump >= -doubt
        clear = max(widths) < self.window / 8
        least = self.limit - 1 - flying - self.late
        self.before = self.count if lo < self.hi + 1.5 * self.window else 0
        self.since = self.hi
        self.lo, self.hi, self.count, self.late, self.lost = lo, hi, 1 + self.lost, 0, 0
        shown = self.sliding or (jump <= doubt <= 0.5 and word.limit > 1 and word.remaining < least)
        self.sliding = shown and clear and self.windows and self._agrees(word, took, flying)

    def _agrees(self, word: Word, took: float, flying: int) -> bool:
        """Whether a sliding window counter can have said this."""
        soon, late = (min(1.0, max(0.0, end) / self.window) for end in (word.soonest, word.latest + took))
        most = self.limit - 1 - floor(self.before * soon)
        least = self.limit - self.count - flying - floor((self.before + flying) * late + _ROUNDING)
        return least <= word.remaining <= most

    def at_least(self, share: float, others: int) -> None:
        """An answer told of another limit that has less left, as a share of the whole: ``share`` of this one is left
        at least."""
        self.room = max(self.room, ceil(share * self.limit - _ROUNDING) - others)

    def unsent(self, sent_at: float) -> None:
        """One that was thought to be on its way never left."""
        if self.granted and self.granted_at == sent_at:
            self.granted = False
        elif not self.sliding and sent_at > self.granted_at:
            self.room += 1

    def unheard(self, now: float) -> None:
        """A request came to its end, perhaps counted, without a word about this limit."""
        self.count += 1
        self.lost += now > self.lo
        self.again_at = max(now, self.hi) + self.window + MARGIN

    def refused(self, now: float, until: float) -> None:
        """The server refuses until then: whatever was thought of this limit is wrong. One goes then."""
        self.room, self.sliding = 0, False
        self.granted, self.granted_at, self.again_at = True, now, until
