"""A thread that carries out together all that waits: group commit, for any store whose operations block.

Operations arrive one by one from the tasks of any number of event loops, under asyncio and trio. The thread takes all
that have arrived, carries them out as one batch, and then wakes the tasks: one call for each event loop and batch, not
one for each operation. While a batch is carried out, the next one gathers, so batches grow with the load, and one
operation alone waits for nobody.

>>> import anyio
>>> def carry_out(operations):
...     return [Outcome(operation.call(len(operations)), None) for operation in operations]
>>> async def three() -> list[int]:
...     thread, sizes = BatchThread("sizes", carry_out), []
...     async def one() -> None:
...         sizes.append(await thread.run(Operation(lambda size: size)))
...     async with anyio.create_task_group() as group:
...         for _ in range(3):
...             group.start_soon(one)
...     await thread.aclose()
...     return sizes
>>> len(anyio.run(three))
3
"""

from __future__ import annotations

import asyncio
import copy
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar

import anyio
import anyio.to_thread

from flexmw.kit.forked import prepare_forks

__all__ = ["BatchThread", "CarryOut", "Operation", "Outcome"]

T = TypeVar("T")

_MAX_OPERATIONS: Final = 256
_MAX_BYTES: Final = 4 * 1024 * 1024
"""Operations of one batch, and bytes that they write, at most: one batch holds the store for as long as it takes."""

_IDLE_SECONDS: Final = 0.1
"""Seconds without an operation after which the thread ends. To begin a thread takes 0.1 ms."""


class Operation(Generic[T]):
    """An operation on a store.

    :param call: carries the operation out. The store gives it what it needs, a transaction for example.
    :param ends: the time after which nobody waits for the operation, by :func:`time.monotonic`.
    :param is_durable: whether a power cut must not undo it.
    :param size_bytes: number of bytes that it writes, about.
    """

    __slots__ = ("call", "ends", "is_abandoned", "is_durable", "size_bytes")

    def __init__(
        self, call: Callable[[Any], T], *, ends: float = inf, is_durable: bool = True, size_bytes: int = 0
    ) -> None:
        self.call, self.ends, self.is_durable, self.size_bytes = call, ends, is_durable, size_bytes
        self.is_abandoned = False
        """Whether the task that waited has left. An operation that was not begun then is not carried out."""


class Outcome(NamedTuple):
    """What became of an operation: its value, or the exception that it raised."""

    value: Any
    error: BaseException | None


CarryOut: TypeAlias = Callable[[Sequence[Operation[Any]]], Sequence[Outcome]]
"""Carries out a batch, and returns an outcome for each operation, in order."""

_Deliver: TypeAlias = Callable[[Outcome], None]
_Schedule: TypeAlias = Callable[..., Any]


class _Waiter(NamedTuple):
    """A task that waits for its operation.

    :param schedule: calls a function in the thread of the event loop. One object for each event loop.
    :param loop: the event loop.
    :param deliver: wakes the task; called in the thread of the event loop.
    """

    operation: Operation[Any]
    loop: object
    schedule: _Schedule
    deliver: _Deliver


class _Turn:
    """The operations of the tasks that an asyncio event loop runs in one turn.

    The thread sees them when the turn ends: none of the tasks can go on before, and a thread that takes what is there
    in the middle makes many small batches, each of which takes the interpreter lock from the loop. One timer bounds the
    time of all of them.
    """

    __slots__ = ("_loop", "_pending", "_timer", "waiters")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._pending: dict[asyncio.Future[Any], Operation[Any]] = {}
        self.waiters: list[_Waiter] = []

    def add(self, operation: Operation[T]) -> asyncio.Future[T]:
        """A future that gets the value of the operation, or its exception."""
        loop = self._loop
        future: asyncio.Future[T] = loop.create_future()
        self._pending[future] = operation
        self.waiters.append(_Waiter(operation, loop, loop.call_soon_threadsafe, partial(self._deliver, future)))
        return future

    def limit(self) -> None:
        """End each operation at its time. Called when the turn ends, and then whenever the time of one is over."""
        now = time.monotonic()
        for future, operation in list(self._pending.items()):
            if future.done():
                del self._pending[future]
            elif operation.ends <= now:
                del self._pending[future]
                operation.is_abandoned = True
                future.set_exception(TimeoutError())
        ends = min((operation.ends for operation in self._pending.values()), default=inf)
        self._timer = None if ends == inf else self._loop.call_later(ends - now, self.limit)

    def _deliver(self, future: asyncio.Future[Any], outcome: Outcome) -> None:
        self._pending.pop(future, None)
        if not self._pending and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if future.done():
            return
        if outcome.error is None:
            future.set_result(outcome.value)
        else:
            future.set_exception(outcome.error)


class _Queue:
    """The operations that wait, and the thread that takes them. A forked child gets another one."""

    __slots__ = ("changed", "is_closing", "thread", "turns", "waiters")

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.waiters: deque[_Waiter] = deque()
        self.turns: dict[asyncio.AbstractEventLoop, _Turn] = {}
        self.is_closing = False
        self.thread: threading.Thread | None = None

    def take(self) -> list[_Waiter]:
        """All that waits, within the bounds of a batch. Empty: the thread has to end, because nothing waits."""
        batch: list[_Waiter] = []
        size_bytes = 0
        with self.changed:
            while len(batch) < _MAX_OPERATIONS and size_bytes < _MAX_BYTES:
                if self.waiters:
                    waiter = self.waiters.popleft()
                    if not waiter.operation.is_abandoned:
                        batch.append(waiter)
                        size_bytes += waiter.operation.size_bytes
                elif batch:
                    break
                elif self.is_closing or not (self.changed.wait(_IDLE_SECONDS) or self.waiters):
                    self.thread, self.is_closing = None, False
                    break
        return batch


class BatchThread:
    """A thread for the operations of one store. It begins with an operation, and ends when none has come for a moment,
    so that a store that nobody closes leaves no thread behind.

    A forked child has no thread and no operations of its parent: they belong to the parent.

    :param name: the name of the thread.
    :param carry_out: carries out a batch, in the thread.
    """

    def __init__(self, name: str, carry_out: CarryOut) -> None:
        self._name, self._carry_out = name, carry_out
        self._queue = _Queue()
        prepare_forks(self)

    async def run(self, operation: Operation[T]) -> T:
        """Carry out an operation with the next batch. Returns its value, or raises its exception.

        A cancelled task takes its operation back if it was not begun. If it was begun, it is carried out.

        :raises TimeoutError: when the time of the operation is over; as if the task was cancelled.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return await self._run_in_trio(operation)
        queue = self._queue
        turn = queue.turns.get(loop)
        if turn is None:
            turn = queue.turns[loop] = _Turn(loop)
            loop.call_soon(self._end_turn, queue, loop)
        try:
            return await turn.add(operation)
        finally:
            operation.is_abandoned = True

    async def _run_in_trio(self, operation: Operation[T]) -> T:
        import trio

        token = trio.lowlevel.current_trio_token()
        delivered = trio.Event()
        outcomes: list[Outcome] = []

        def deliver(outcome: Outcome) -> None:
            outcomes.append(outcome)
            delivered.set()

        queue = self._queue
        self._submit(queue, [_Waiter(operation, token, token.run_sync_soon, deliver)])
        seconds = None if operation.ends == inf else max(0.0, operation.ends - time.monotonic())
        try:
            with anyio.fail_after(seconds):
                await delivered.wait()
        finally:
            operation.is_abandoned = True
        (outcome,) = outcomes
        if outcome.error is not None:
            raise outcome.error
        value: T = outcome.value
        return value

    def _end_turn(self, queue: _Queue, loop: asyncio.AbstractEventLoop) -> None:
        turn = queue.turns.pop(loop, None)
        if turn is not None:
            turn.limit()
            self._submit(queue, turn.waiters)

    def _submit(self, queue: _Queue, waiters: list[_Waiter]) -> None:
        with queue.changed:
            queue.waiters.extend(waiters)
            if queue.thread is not None:
                queue.changed.notify()
                return
            thread = threading.Thread(target=_work, args=(queue, self._carry_out), name=self._name, daemon=True)
            try:
                thread.start()  # it waits for the lock
            except RuntimeError as error:  # the process has as many threads as it may have
                waiters = list(queue.waiters)
                queue.waiters.clear()
                _deliver(waiters, [Outcome(None, copy.copy(error)) for _ in waiters])
            else:
                queue.thread = thread

    async def aclose(self) -> None:
        """Wait until all that waits is carried out, and end the thread. The next operation begins another one."""
        queue = self._queue
        with suppress(RuntimeError):
            self._end_turn(queue, asyncio.get_running_loop())
        with queue.changed:
            thread = queue.thread
            if thread is None:
                return
            queue.is_closing = True
            queue.changed.notify()
        await anyio.to_thread.run_sync(thread.join, limiter=anyio.CapacityLimiter(1), abandon_on_cancel=True)

    def before_fork(self) -> None:
        self._queue.changed.acquire()

    def after_fork(self, *, is_child: bool) -> None:
        if is_child:
            self._queue = _Queue()
        else:
            self._queue.changed.release()


def _work(queue: _Queue, carry_out: CarryOut) -> None:
    """The thread."""
    while batch := queue.take():
        _deliver(batch, _outcomes(carry_out, [waiter.operation for waiter in batch]))
        del batch  # the responses are not kept while the thread waits


def _outcomes(carry_out: CarryOut, operations: list[Operation[Any]]) -> Sequence[Outcome]:
    try:
        return carry_out(operations)
    except BaseException as error:
        return [Outcome(None, error)] * len(operations)


def _deliver(batch: list[_Waiter], outcomes: Sequence[Outcome]) -> None:
    by_loop: dict[object, tuple[_Schedule, list[tuple[_Deliver, Outcome]]]] = {}
    for waiter, outcome in zip(batch, outcomes, strict=True):
        by_loop.setdefault(waiter.loop, (waiter.schedule, []))[1].append((waiter.deliver, outcome))
    for schedule, deliveries in by_loop.values():
        with suppress(RuntimeError):  # the event loop is closed, and its tasks with it
            schedule(_deliver_all, deliveries)


def _deliver_all(deliveries: list[tuple[_Deliver, Outcome]]) -> None:
    for deliver, outcome in deliveries:
        deliver(outcome)
