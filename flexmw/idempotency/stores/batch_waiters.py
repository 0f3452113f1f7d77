"""The operations of a batch thread, and the tasks that wait for them: by event loop, under asyncio and trio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from math import inf
from typing import Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

import anyio

__all__ = ["AsyncioLoop", "Loop", "Operation", "Operations", "Outcome", "TrioLoop", "TrioWaiter"]

T = TypeVar("T")


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
    """The outcome of an operation: its value, or the exception that it raised."""

    value: Any
    error: BaseException | None


Operations: TypeAlias = list[Operation[Any]]


class AsyncioLoop:
    """An event loop of asyncio, and the operations of its tasks.

    The thread sees the operations of one turn of the loop when the turn ends. None of the tasks can go on before. A
    thread that took operations within a turn made many small batches, and each batch takes the interpreter lock from
    the loop. One timer bounds the time of all operations.

    :ivar turn: the operations of this turn.
    """

    __slots__ = ("_loop", "_pending", "_timer", "_timer_at", "turn")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.turn: Operations = []
        self._pending: set[Operation[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf

    @property
    def is_closed(self) -> bool:
        """Whether no task of the loop can wait any more."""
        return self._loop.is_closed()

    def end_turn(self) -> Operations:
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

    def deliver_soon(self, operations: Operations) -> None:
        """Wake the tasks, from another thread.

        :raises RuntimeError: when the loop is closed.
        """
        self._loop.call_soon_threadsafe(self.deliver, operations)

    def deliver(self, operations: Operations) -> None:
        """Wake the tasks."""
        self._pending.difference_update(operations)
        _deliver(operations)


class TrioLoop(NamedTuple):
    """An event loop of trio, by its token."""

    token: Any

    def deliver_soon(self, operations: Operations) -> None:
        """Wake the tasks, from another thread.

        :raises RuntimeError: when the loop has ended.
        """
        self.token.run_sync_soon(_deliver, operations)

    def deliver(self, operations: Operations) -> None:
        """Wake the tasks."""
        _deliver(operations)


class TrioWaiter:
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


Loop: TypeAlias = AsyncioLoop | TrioLoop


def _deliver(operations: Operations) -> None:
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
