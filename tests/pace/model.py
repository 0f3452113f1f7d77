"""A limited server and a paced crowd in one heap of events: every latency is chosen, no time passes."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from itertools import count
from math import floor
from typing import Any

from flexmw.contract import HeaderStyle, Quota, render
from flexmw.pace.headers import word_of
from flexmw.pace.schedule import Lane
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.ratelimit.core import SECOND, Rate
from flexmw.ratelimit.rates import parse_rates

EPOCH = 1_800_000_000


@dataclass
class Counted:
    """What one of the four algorithms says: wait, remaining and reset of each request, in microseconds."""

    rate: Rate
    strategy: str
    state: Any = None

    def __call__(self, now: int) -> tuple[int, int, int]:
        algorithm = ALGORITHMS[self.strategy]
        wait = algorithm.wait(self.state, now, self.rate, 1)
        if not wait:
            self.state = algorithm.take(self.state, now, self.rate, 1)
        return wait, algorithm.remaining(self.state, now, self.rate), algorithm.reset(self.state, now, self.rate)


@dataclass
class Aligned:
    """Windows that begin and end with the clock; a sliding one counts part of the one before."""

    rate: Rate
    sliding: bool
    turn: int = -9
    counts: tuple[int, int] = (0, 0)

    def __call__(self, now: int) -> tuple[int, int, int]:
        window, turn = self.rate.window_us, now // self.rate.window_us
        if turn > self.turn:
            self.counts = self.counts[1] if turn == self.turn + 1 and self.sliding else 0, 0
            self.turn = turn
        before, current = self.counts
        left = (turn + 1) * window - now
        room = self.rate.limit - before * left // window - current
        if room < 1:
            return left, 0, left
        self.counts = before, current + 1
        return 0, room - 1, left


SERVERS: dict[str, Callable[[Rate], Callable[[int], tuple[int, int, int]]]] = {
    **{name: (lambda rate, name=name: Counted(rate, name)) for name in ALGORITHMS},
    "clock-aligned": lambda rate: Aligned(rate, sliding=False),
    "clock-aligned sliding": lambda rate: Aligned(rate, sliding=True),
}


@dataclass
class World:
    """``up`` and ``down`` give the seconds until a request is counted and from then until its answer is read. ``fails``
    says whether a counted request's answer is lost. ``ahead`` is how far the server's clock is before ours."""

    server: str
    rate: str
    dialect: HeaderStyle = "openai"
    up: Callable[[], float] = lambda: 0.001
    down: Callable[[], float] = lambda: 0.001
    fails: Callable[[], bool] = lambda: False
    ahead: float = 0.0
    dated: bool = False
    start: float = 0.0
    poll: float = 0.0
    lane: Lane = field(default_factory=lambda: Lane(patience=1e9))
    counted: list[float] = field(default_factory=list)

    def run(self, calls: Sequence[float]) -> None:
        """Send them all; fails at the first refusal."""
        rate = parse_rates(self.rate)[0]
        decide, order, learned = SERVERS[self.server](rate), count(), None
        events = [(at, next(order), "ask", ()) for at in calls]
        heapq.heapify(events)

        def later(at: float, what: str, *values: Any) -> None:
            heapq.heappush(events, (at, next(order), what, values))

        while events:
            now, _, what, values = heapq.heappop(events)
            wall = EPOCH + self.start + now
            match what, values:
                case "ask", _:
                    wait = self.lane.wait(now)
                    if wait:
                        later(now + max(wait, self.poll), "ask")
                    else:
                        later(now + self.up(), "count", self.lane.sent(now))
                case "count", (ticket,):
                    there = int((wall + self.ahead) * SECOND)
                    wait, remaining, reset = decide(there)
                    self.counted.append(now)
                    assert not wait, f"refused for {wait} us at {now}, the {len(self.counted)}th: {self.lane}"
                    what = "lose" if self.lane.heard and self.fails() else "answer"
                    later(now + self.down(), what, ticket, there, remaining, reset)
                case "lose", (ticket, *_):
                    self.lane.failed(ticket, now=now)
                case _, (ticket, there, remaining, reset):
                    headers = self._headers(rate, there, remaining, reset)
                    word, learned = word_of(headers, EPOCH + self.start + ticket.sent_at, wall, learned)
                    self.lane.answered(ticket, now=now, word=word)

    def _headers(self, rate: Rate, there: int, remaining: int, reset: int) -> dict[str, str]:
        quota = Quota(
            limit=rate.limit, remaining=remaining, reset_at=(there + reset) / SECOND, window=rate.window_us // SECOND
        )
        headers = render(quota, now=there / SECOND, styles=[self.dialect])
        dated = [("Date", formatdate(floor(there / SECOND), usegmt=True))] if self.dated else []
        return {name.lower(): value for name, value in headers + dated}
