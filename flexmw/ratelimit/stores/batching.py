"""Many equal questions at once, asked in few commands.

The first questions go one by one, side by side. Those that come while so many are on their way wait until one of them
is back, or for as long as company is worth, and go together: the store admits as many of them as fit, in the order in
which they came. So nobody waits for another one unless there is a crowd, and a crowd is faster together.
"""

from __future__ import annotations

from asyncio import CancelledError, Future, Task, TimerHandle, get_running_loop
from collections.abc import Callable, Coroutine, Hashable, Sequence
from typing import Any, Final, TypeAlias

from flexmw.ratelimit.core import Rate

__all__ = ["COMPANY", "FLIGHTS", "Crowd"]

FLIGHTS: Final = 8
"""Commands about one question that are on their way at the same time before others wait for company."""

COMPANY: Final = 0.02
"""Seconds that others wait for it. The answers of a store that is far away take longer, and whoever waited for one of
those first would have used up the time that the own question has."""

Reply: TypeAlias = list[Any]
Ask: TypeAlias = Callable[[str, Sequence[Rate], int, int], Coroutine[Any, Any, Reply]]


class Crowd:
    """Brings equal questions of one process together, each event loop's own."""

    def __init__(self) -> None:
        self._lanes: dict[Hashable, _Lane] = {}

    async def join(self, ask: Ask, digest: str, rates: Sequence[Rate], cost: int) -> tuple[Reply, int]:
        """The store's answer, and the place among those that it answers, from 0.

        :param ask: sends a question for as many as it is told.
        """
        # The lane keeps the rates alive, so that their identity says which ones they are: cheaper than to compare them.
        key = get_running_loop(), digest, cost, id(rates)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(ask, digest, rates, cost)
        if lane.flights >= FLIGHTS:
            seat: Future[tuple[Reply, int]] = get_running_loop().create_future()
            lane.waiting.append(seat)
            if lane.timer is None:
                lane.timer = get_running_loop().call_later(COMPANY, self._depart, key, lane)
            return await seat
        lane.flights += 1
        try:
            return await ask(digest, rates, cost, 1), 0
        finally:
            self._landed(key, lane)

    def _landed(self, key: Hashable, lane: _Lane) -> None:
        lane.flights -= 1
        self._depart(key, lane)
        if not lane.flights:
            del self._lanes[key]

    def _depart(self, key: Hashable, lane: _Lane) -> None:
        """All who wait go now."""
        if lane.timer is not None:
            lane.timer.cancel()
            lane.timer = None
        together = [seat for seat in lane.waiting if not seat.done()]
        lane.waiting.clear()
        if together:
            lane.flights += 1
            _Flight(together, lane.ask(len(together)), lambda: self._landed(key, lane))


class _Lane:
    """One question."""

    __slots__ = ("_question", "flights", "timer", "waiting")

    def __init__(self, *question: Any) -> None:
        self._question = question
        self.flights = 0
        self.timer: TimerHandle | None = None
        self.waiting: list[Future[tuple[Reply, int]]] = []

    def ask(self, number: int) -> Coroutine[Any, Any, Reply]:
        ask, digest, rates, cost = self._question
        return ask(digest, rates, cost, number)  # type: ignore[no-any-return]


class _Flight:
    """One command for several. It is called off when nobody waits for it any more."""

    def __init__(
        self,
        seats: list[Future[tuple[Reply, int]]],
        command: Coroutine[Any, Any, Reply],
        landed: Callable[[], None],
    ) -> None:
        self._seats, self._landed = seats, landed
        self._left = len(seats)
        self._task = get_running_loop().create_task(command)
        self._task.add_done_callback(self._arrived)
        for seat in seats:
            seat.add_done_callback(self._left_by)

    def _left_by(self, seat: Future[tuple[Reply, int]]) -> None:
        self._left -= 1
        if not self._left:
            self._task.cancel()

    def _arrived(self, task: Task[Reply]) -> None:
        self._landed()
        error = CancelledError() if task.cancelled() else task.exception()
        for place, seat in enumerate(self._seats):
            if seat.done():
                continue
            if isinstance(error, CancelledError):
                seat.cancel()
            elif error is not None:
                seat.set_exception(error)
            else:
                seat.set_result((task.result(), place))
