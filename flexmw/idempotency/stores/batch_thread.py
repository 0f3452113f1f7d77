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
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeAlias, TypeVar

import anyio
import anyio.to_thread

from flexmw.idempotency.stores.batch_waiters import (
    AsyncioLoop,
    Loop,
    Operation,
    Operations,
    Outcome,
    TrioLoop,
    TrioWaiter,
)
from flexmw.kit.forked import prepare_forks

__all__ = ["BatchThread", "CarryOut"]

T = TypeVar("T")

_MAX_OPERATIONS: Final = 256
_MAX_BYTES: Final = 4 * 1024 * 1024
"""The most operations of one batch, and the most bytes that they write. No other batch runs meanwhile, so a batch is
short."""

_IDLE_SECONDS: Final = 0.1
"""Seconds without an operation after which the thread ends. To begin a thread takes 0.1 ms."""


CarryOut: TypeAlias = Callable[[Sequence[Operation[Any]]], Sequence[Outcome]]
"""Carries out a batch, and returns an outcome for each operation, in order."""

_Group: TypeAlias = tuple[Loop, Operations]
"""Operations of the tasks of one event loop."""


class _Queue:
    """The operations that wait, and the thread that takes them. A forked child gets another one.

    :ivar lock: held to begin the thread, and by the thread to end.
    :ivar waiting: the groups that wait. ``None`` among them: the thread ends as soon as nothing waits.
    :ivar loops: the event loops of asyncio whose tasks have used the queue.
    """

    __slots__ = ("_is_closing", "_rest", "lock", "loops", "thread", "waiting")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.waiting: SimpleQueue[_Group | None] = SimpleQueue()
        self.loops: dict[asyncio.AbstractEventLoop, AsyncioLoop] = {}
        self.thread: threading.Thread | None = None
        self._rest: _Group | None = None
        """What the last batch had no room for. Belongs to the thread."""
        self._is_closing = False

    def loop_of(self, loop: asyncio.AbstractEventLoop) -> AsyncioLoop:
        """The operations of an event loop."""
        found = self.loops.get(loop)
        if found is None:
            for other, party in list(self.loops.items()):
                if party.is_closed:
                    self.loops.pop(other, None)
            found = self.loops[loop] = AsyncioLoop(loop)
        return found

    def take(self) -> list[_Group]:
        """All that waits, within the bounds of a batch. Empty: the thread has to end, because nothing waits."""
        batch: list[_Group] = []
        count = size_bytes = 0
        while count < _MAX_OPERATIONS and size_bytes < _MAX_BYTES:
            group = self._next(is_first=not batch)
            if group is None:
                break
            loop, operations = group
            taken = 0
            for operation in operations:
                taken += 1
                size_bytes += operation.size_bytes
                if count + taken >= _MAX_OPERATIONS or size_bytes >= _MAX_BYTES:
                    break
            if taken < len(operations):
                self._rest = (loop, operations[taken:])
                operations = operations[:taken]
            batch.append((loop, operations))
            count += taken
        return batch

    def _next(self, *, is_first: bool) -> _Group | None:
        """The next group.

        :param is_first: wait for it. ``None`` then says that the thread has ended.
        """
        rest, self._rest = self._rest, None
        if rest is not None:
            return rest
        while True:
            try:
                group = self.waiting.get(is_first and not self._is_closing, _IDLE_SECONDS)
            except Empty:
                if not is_first:
                    return None
                with self.lock:
                    if self.waiting.empty():
                        self.thread, self._is_closing = None, False
                        return None
            else:
                if group is not None:
                    return group
                self._is_closing = True


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
        party = queue.loops.get(loop) or queue.loop_of(loop)
        turn = party.turn
        if not turn:
            loop.call_soon(self._end_turn, queue, party)
        turn.append(operation)
        future: asyncio.Future[T] = loop.create_future()
        operation.waiter = future
        return await future

    async def _run_in_trio(self, operation: Operation[T]) -> T:
        import trio

        token = trio.lowlevel.current_trio_token()
        waiter = operation.waiter = TrioWaiter()
        self._submit(self._queue, (TrioLoop(token), [operation]))
        value: T = await waiter.wait(None if operation.ends == inf else max(0.0, operation.ends - time.monotonic()))
        return value

    def _end_turn(self, queue: _Queue, party: AsyncioLoop) -> None:
        if party.turn:
            self._submit(queue, (party, party.end_turn()))

    def _submit(self, queue: _Queue, group: _Group) -> None:
        with queue.lock:
            queue.waiting.put(group)
            if queue.thread is not None:
                return
            thread = threading.Thread(target=_work, args=(queue, self._carry_out), name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the process has as many threads as it may have
                loop, operations = group
                queue.waiting.get_nowait()
                for operation in operations:
                    operation.outcome = Outcome(None, copy.copy(error))
                loop.deliver(operations)
            else:
                queue.thread = thread

    async def aclose(self) -> None:
        """Wait until all that waits is carried out, and end the thread. The next operation begins another one."""
        queue = self._queue
        with suppress(RuntimeError):
            party = queue.loops.get(asyncio.get_running_loop())
            if party is not None:
                self._end_turn(queue, party)
        with queue.lock:
            thread = queue.thread
            if thread is None:
                return
            queue.waiting.put(None)
        await anyio.to_thread.run_sync(thread.join, limiter=anyio.CapacityLimiter(1), abandon_on_cancel=True)

    def before_fork(self) -> None:
        self._queue.lock.acquire()

    def after_fork(self, *, is_child: bool) -> None:
        if is_child:
            self._queue = _Queue()
        else:
            self._queue.lock.release()


def _work(queue: _Queue, carry_out: CarryOut) -> None:
    """The thread."""
    while batch := queue.take():
        _carry_out_batch(carry_out, batch)
        del batch  # the responses are not kept while the thread waits


def _carry_out_batch(carry_out: CarryOut, batch: list[_Group]) -> None:
    """Carry out the operations that somebody waits for, and wake the tasks: one call for each event loop."""
    by_loop: dict[Loop, Operations] = {}
    for loop, operations in batch:
        others = by_loop.setdefault(loop, operations)
        if others is not operations:
            others += operations
    begun = [operation for operations in by_loop.values() for operation in operations if not operation.is_abandoned]
    for operation, outcome in zip(begun, _outcomes(carry_out, begun), strict=True):
        operation.outcome = outcome
    for loop, operations in by_loop.items():
        with suppress(RuntimeError):  # the event loop is closed, and its tasks with it
            loop.deliver_soon(operations)


def _outcomes(carry_out: CarryOut, operations: Operations) -> Sequence[Outcome]:
    if not operations:
        return ()
    try:
        return carry_out(operations)
    except BaseException as error:
        return [Outcome(None, error)] * len(operations)
