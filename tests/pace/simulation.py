"""A simulation of a rate-limited server and paced clients: an event heap with chosen latencies, without real time."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from itertools import count
from math import floor
from typing import Any

from flexmw.contract import HeaderStyle, Quota, render
from flexmw.pace.core import PaceState
from flexmw.pace.headers import read_limit
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.ratelimit.core import SECOND, Rate
from flexmw.ratelimit.rates import parse_rates

EPOCH = 1_800_000_000


@dataclass
class Counted:
    """A server with one of flexmw's algorithms. A call gives wait, remaining and reset, times in microseconds."""

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
    """A server whose windows are aligned with the clock. A sliding one also counts a share of the last window."""

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
class Simulation:
    """One server and one :class:`PaceState` that all requests share.

    :param up: gives the seconds from the sending of a request until the server counts it.
    :param down: gives the seconds from there until the client reads the response.
    :param fails: gives whether the response of a counted request is lost.
    :param ahead: seconds by which the server's clock is ahead of the client's.
    :param dated: responses have a ``Date`` header.
    :param start: seconds by which the first window has advanced when the simulation starts.
    :param poll: a lower bound of each wait in seconds, which keeps long simulations fast.
    """

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
    state: PaceState = field(default_factory=lambda: PaceState(patience=1e9))
    counted: list[float] = field(default_factory=list)

    def run(self, calls: Sequence[float]) -> None:
        """Send one request at each of these seconds; fail at the first refusal."""
        rate = parse_rates(self.rate)[0]
        decide, order, learned = SERVERS[self.server](rate), count(), None
        events = [(at, next(order), "enter", ()) for at in calls]
        heapq.heapify(events)

        def later(at: float, what: str, *values: Any) -> None:
            heapq.heappush(events, (at, next(order), what, values))

        while events:
            now, _, what, values = heapq.heappop(events)
            wall = EPOCH + self.start + now
            match what, values:
                case "enter", _:
                    wait = self.state.wait(now)
                    if wait:
                        later(now + max(wait, self.poll), "enter")
                    else:
                        later(now + self.up(), "count", self.state.start(now))
                case "count", (flight,):
                    there = int((wall + self.ahead) * SECOND)
                    wait, remaining, reset = decide(there)
                    self.counted.append(now)
                    assert not wait, f"refused for {wait} us at {now}, the {len(self.counted)}th: {self.state}"
                    what = "fail" if self.state.learned and self.fails() else "finish"
                    later(now + self.down(), what, flight, there, remaining, reset)
                case "fail", (flight, *_):
                    self.state.fail(flight, now=now)
                case _, (flight, there, remaining, reset):
                    headers = self.headers(rate, there, remaining, reset)
                    reading, learned = read_limit(headers, EPOCH + self.start + flight.sent_at, wall, learned)
                    self.state.finish(flight, now=now, reading=reading)

    def headers(self, rate: Rate, there: int, remaining: int, reset: int) -> dict[str, str]:
        """The headers of a response, by names in lower case.

        :param there: the server's time, in microseconds.
        :param reset: microseconds from then until the limit is unused.
        """
        quota = Quota(
            limit=rate.limit, remaining=remaining, reset_at=(there + reset) / SECOND, window=rate.window_us // SECOND
        )
        headers = render(quota, now=there / SECOND, styles=[self.dialect])
        dated = [("Date", formatdate(floor(there / SECOND), usegmt=True))] if self.dated else []
        return {name.lower(): value for name, value in headers + dated}
