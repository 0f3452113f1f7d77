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
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

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


class _Waiter(Protocol):
    """What a task waits for: a future of asyncio, or its like for trio. Written in the thread of its event loop."""

    def done(self) -> bool: ...
    def set_result(self, value: Any, /) -> None: ...
    def set_exception(self, error: Any, /) -> None: ...


class Operation(Generic[T]):
    """An operation on a store.

    Neither a closure nor a cycle of references belongs to an operation. Both were there once, and with 64 requests at
    once the garbage collector took a quarter of their time.

    :param call: carries the operation out. The store calls it with what it needs, a transaction for example, and with
        ``arguments``.
    :param ends: the time after which nobody waits for the operation, by :func:`time.monotonic`.
    :param is_durable: whether a power cut must not undo it.
    :param size_bytes: number of bytes that it writes, about.
    :ivar waiter: what the task waits for; ``None`` where no task waits.
    :ivar outcome: what became of the operation, once it was carried out.
    """

    __slots__ = ("arguments", "call", "ends", "is_durable", "outcome", "size_bytes", "waiter")

    def __init__(
        self,
        call: Callable[..., T],
        arguments: tuple[Any, ...] = (),
        *,
        ends: float = inf,
        is_durable: bool = True,
        size_bytes: int = 0,
    ) -> None:
        self.call, self.arguments, self.ends = call, arguments, ends
        self.is_durable, self.size_bytes = is_durable, size_bytes
        self.waiter: _Waiter | None = None
        self.outcome: Outcome

    @property
    def is_abandoned(self) -> bool:
        """Whether the task that waited has left. An operation that was not begun then is not carried out."""
        waiter = self.waiter
        return waiter is not None and waiter.done()


class Outcome(NamedTuple):
    """What became of an operation: its value, or the exception that it raised."""

    value: Any
    error: BaseException | None


CarryOut: TypeAlias = Callable[[Sequence[Operation[Any]]], Sequence[Outcome]]
"""Carries out a batch, and returns an outcome for each operation, in order."""

_Operations: TypeAlias = list[Operation[Any]]


class _AsyncioLoop:
    """An event loop of asyncio, and the operations of its tasks.

    The thread sees the operations of one turn of the loop when the turn ends: none of the tasks can go on before, and
    a thread that takes what is there in the middle makes many small batches, each of which takes the interpreter lock
    from the loop. One timer bounds the time of all operations.

    :ivar turn: the operations of this turn.
    """

    __slots__ = ("_loop", "_pending", "_timer", "_timer_at", "turn")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.turn: _Operations = []
        self._pending: set[Operation[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf

    @property
    def is_closed(self) -> bool:
        """Whether no task of the loop can wait any more."""
        return self._loop.is_closed()

    def end_turn(self) -> _Operations:
        """The operations of the turn, whose time is bounded from now on."""
        operations, self.turn = self.turn, []
        self._pending.update(operations)
        for operation in operations:
            if operation.ends < self._timer_at:
                self._end_late()
                break
        return operations

    def _end_late(self) -> None:
        """End each operation whose time is over, and set the timer to the end of the next one.

        The timer is not set anew with each operation, because that costs more than the operation.
        """
        if self._timer is not None:
            self._timer.cancel()
        now, next_end = time.monotonic(), inf
        for operation in list(self._pending):
            waiter = operation.waiter
            if waiter is None or waiter.done():
                self._pending.discard(operation)
            elif operation.ends <= now:
                self._pending.discard(operation)
                waiter.set_exception(TimeoutError())
            elif operation.ends < next_end:
                next_end = operation.ends
        self._timer_at = next_end
        self._timer = None if next_end == inf else self._loop.call_later(next_end - now, self._end_late)

    def deliver_soon(self, operations: _Operations) -> None:
        """Wake the tasks, from another thread.

        :raises RuntimeError: when the loop is closed.
        """
        self._loop.call_soon_threadsafe(self.deliver, operations)

    def deliver(self, operations: _Operations) -> None:
        """Wake the tasks."""
        self._pending.difference_update(operations)
        _deliver(operations)


class _TrioLoop(NamedTuple):
    """An event loop of trio, by its token."""

    token: Any

    def deliver_soon(self, operations: _Operations) -> None:
        """Wake the tasks, from another thread.

        :raises RuntimeError: when the loop has ended.
        """
        self.token.run_sync_soon(_deliver, operations)

    def deliver(self, operations: _Operations) -> None:
        """Wake the tasks."""
        _deliver(operations)


class _TrioWaiter:
    """What a task of trio waits for."""

    __slots__ = ("_delivered", "_error", "_is_over", "_value")

    def __init__(self) -> None:
        self._delivered = anyio.Event()
        self._is_over = False
        self._value: Any = None
        self._error: BaseException | None = None

    def done(self) -> bool:
        return self._is_over

    def set_result(self, value: Any, /) -> None:
        self._is_over, self._value = True, value
        self._delivered.set()

    def set_exception(self, error: Any, /) -> None:
        self._is_over, self._error = True, error
        self._delivered.set()

    async def wait(self, seconds: float | None) -> Any:
        """The value of the operation, or its exception.

        :param seconds: the time of the operation.
        """
        try:
            with anyio.fail_after(seconds):
                await self._delivered.wait()
        finally:
            self._is_over = True
        if self._error is not None:
            raise self._error
        return self._value


_Loop: TypeAlias = _AsyncioLoop | _TrioLoop
_Group: TypeAlias = tuple[_Loop, _Operations]
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
        self.loops: dict[asyncio.AbstractEventLoop, _AsyncioLoop] = {}
        self.thread: threading.Thread | None = None
        self._rest: _Group | None = None
        """What the last batch had no room for. Belongs to the thread."""
        self._is_closing = False

    def loop_of(self, loop: asyncio.AbstractEventLoop) -> _AsyncioLoop:
        """The operations of an event loop."""
        found = self.loops.get(loop)
        if found is None:
            for other, party in list(self.loops.items()):
                if party.is_closed:
                    self.loops.pop(other, None)
            found = self.loops[loop] = _AsyncioLoop(loop)
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
        waiter = operation.waiter = _TrioWaiter()
        self._submit(self._queue, (_TrioLoop(token), [operation]))
        value: T = await waiter.wait(None if operation.ends == inf else max(0.0, operation.ends - time.monotonic()))
        return value

    def _end_turn(self, queue: _Queue, party: _AsyncioLoop) -> None:
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
    by_loop: dict[_Loop, _Operations] = {}
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


def _outcomes(carry_out: CarryOut, operations: _Operations) -> Sequence[Outcome]:
    if not operations:
        return ()
    try:
        return carry_out(operations)
    except BaseException as error:
        return [Outcome(None, error)] * len(operations)


def _deliver(operations: _Operations) -> None:
    """Wake the tasks that still wait, in the thread of their event loop."""
    for operation in operations:
        waiter = operation.waiter
        if waiter is None or waiter.done():
            continue
        value, error = operation.outcome
        if error is None:
            waiter.set_result(value)
        else:
            waiter.set_exception(error)
