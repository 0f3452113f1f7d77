"""Batching: many equal checks at once become few commands.

How it works: the first :data:`MAX_IN_FLIGHT` equal checks are sent at once, each as a command of its own. Later ones
are queued until one of those commands returns, or for :data:`MAX_BATCH_WAIT` seconds, and are then sent as one command
for all of them. The store admits as many as fit, in the order in which they were queued. So a check waits for others
only while the store has many such checks to decide, and then the batch is faster than single commands.
"""

from __future__ import annotations

from asyncio import CancelledError, Future, Task, TimerHandle, get_running_loop
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final, TypeAlias

from flexmw.ratelimit.core import Check

__all__ = ["MAX_BATCH_WAIT", "MAX_IN_FLIGHT", "Batcher"]

MAX_IN_FLIGHT: Final = 8
"""How many commands for equal checks are sent before further checks are queued."""

MAX_BATCH_WAIT: Final = 0.02
"""Seconds that a check is queued at most. The replies of a distant store take longer, and a check that waited for one
of them would have used up its own ``store_timeout``."""

Reply: TypeAlias = list[Any]
Send: TypeAlias = Callable[[Check, int], Coroutine[Any, Any, Reply]]
"""Sends one command for a number of checks that equal the given check."""


class Batcher:
    """Batches the equal checks of one process, for each event loop separately."""

    def __init__(self) -> None:
        self._queues: dict[Hashable, _Queue] = {}

    async def send(self, send: Send, check: Check) -> tuple[Reply, int]:
        """The store's reply, and the position of this check among those that the reply is about, from 0."""
        # The identity of the rates instead of their value: much cheaper to compare. It cannot be reused meanwhile,
        # because the queue keeps the check, and with it the rates, alive for as long as the key is in the table.
        key = get_running_loop(), check.digest, check.costs, id(check.rates)
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = _Queue(send, check)
        if queue.in_flight >= MAX_IN_FLIGHT:
            place: Future[tuple[Reply, int]] = get_running_loop().create_future()
            queue.waiting.append(place)
            if queue.timer is None:
                queue.timer = get_running_loop().call_later(MAX_BATCH_WAIT, self._send_batch, key, queue)
            return await place
        queue.in_flight += 1
        try:
            return await send(check, 1), 0
        finally:
            self._returned(key, queue)

    def _returned(self, key: Hashable, queue: _Queue) -> None:
        queue.in_flight -= 1
        self._send_batch(key, queue)
        if not queue.in_flight:
            del self._queues[key]

    def _send_batch(self, key: Hashable, queue: _Queue) -> None:
        """Send one command for all that are queued."""
        if queue.timer is not None:
            queue.timer.cancel()
            queue.timer = None
        places = [place for place in queue.waiting if not place.done()]
        queue.waiting.clear()
        if places:
            queue.in_flight += 1
            _Batch(places, queue.send(queue.check, len(places)), lambda: self._returned(key, queue))


class _Queue:
    """The checks that are equal to ``check``: how many commands are in flight, and what waits for the next one."""

    __slots__ = ("check", "in_flight", "send", "timer", "waiting")

    def __init__(self, send: Send, check: Check) -> None:
        self.send = send
        self.check = check
        self.in_flight = 0
        self.timer: TimerHandle | None = None
        self.waiting: list[Future[tuple[Reply, int]]] = []


class _Batch:
    """One command for several checks. It is cancelled when every task that waits for it has been cancelled."""

    def __init__(
        self,
        places: list[Future[tuple[Reply, int]]],
        command: Coroutine[Any, Any, Reply],
        returned: Callable[[], None],
    ) -> None:
        self._places, self._returned = places, returned
        self._waiting = len(places)
        self._task = get_running_loop().create_task(command)
        self._task.add_done_callback(self._deliver)
        for place in places:
            place.add_done_callback(self._place_done)

    def _place_done(self, place: Future[tuple[Reply, int]]) -> None:
        self._waiting -= 1
        if not self._waiting:
            self._task.cancel()

    def _deliver(self, task: Task[Reply]) -> None:
        self._returned()
        error = CancelledError() if task.cancelled() else task.exception()
        for position, place in enumerate(self._places):
            if place.done():
                continue
            if isinstance(error, CancelledError):
                place.cancel()
            elif error is not None:
                place.set_exception(error)
            else:
                place.set_result((task.result(), position))
