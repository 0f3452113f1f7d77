"""The slots of concurrent requests: held from before the store is asked until the response has ended.

In this process a slot is held until it is given back. In a store over a network it is a lease, which ends unless it is
renewed, because a process may die. A request that is over within a third of its lease starts no task.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Task, TimerHandle, get_running_loop, shield, sleep
from asyncio import wait as wait_for_tasks
from collections.abc import Callable, Coroutine, Mapping
from secrets import token_hex
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

from flexmw.kit.events import RateLimitSlot
from flexmw.ratelimit.core import SECOND, Slot
from flexmw.ratelimit.event_loop import check_event_loop
from flexmw.ratelimit.stores import LocalStore

__all__ = [
    "Lease",
    "LocalLease",
    "RemoteLease",
    "ReportedLease",
    "SlotStore",
    "finish_writes",
    "new_slot",
    "number_of_ends",
    "run_to_completion",
]

_writes: Final[set[Task[None]]] = set()
_ends: Final[WeakKeyDictionary[AbstractEventLoop, int]] = WeakKeyDictionary()


def new_slot(limit: int, lease: float, prefix: str = "") -> Slot:
    """A slot for one request.

    :param lease: seconds.
    :param prefix: what keeps the slots apart from those of other limiters in the same store.
    """
    # Random, not counted: a counter would be shared with the processes that this one is forked into.
    return Slot(token_hex(8), limit, int(lease * SECOND), prefix)


class Lease(Protocol):
    """The slot of one request, whatever the store.

    Call :meth:`granted` or :meth:`refused` when the store has decided, and :meth:`release` in any case.
    """

    def granted(self, *, degraded: bool) -> None:
        """The slot may be held. ``degraded``: the store did not decide."""
        ...

    def refused(self) -> None:
        """The store has decided that the slot is not held."""
        ...

    async def release(self) -> None:
        """Give the slot back, unless it is not held or has been given back."""
        ...


class LocalLease:
    """A slot in this process."""

    __slots__ = ("_digest", "_held", "_slot", "_store")

    def __init__(self, store: LocalStore, digest: str, slot: Slot) -> None:
        self._store, self._digest, self._slot = store, digest, slot
        self._held = True

    def granted(self, *, degraded: bool) -> None:
        """Nothing to do: the slot is held until it is given back."""

    def refused(self) -> None:
        self._held = False

    async def release(self) -> None:
        if self._held:
            self._held = False
            self._store.release(self._digest, self._slot)


class SlotStore(Protocol):
    """What a lease needs of a store over a network. Its methods do not raise."""

    async def renew(self, digest: str, slot: Slot, *, takes: bool = False) -> bool | None: ...
    async def release(self, digest: str, slot: Slot) -> None: ...


class RemoteLease:
    """A slot in a store over a network. It counts as held until the store has refused it, because a store that did not
    response may have granted it."""

    __slots__ = ("_degraded", "_digest", "_held", "_slot", "_store", "_task", "_timer")

    def __init__(self, store: SlotStore, digest: str, slot: Slot) -> None:
        check_event_loop()
        self._store, self._digest, self._slot = store, digest, slot
        self._held = True
        self._degraded = False
        self._timer: TimerHandle | None = None
        self._task: Task[None] | None = None

    def granted(self, *, degraded: bool) -> None:
        self._degraded = degraded
        if not degraded:
            self._timer = get_running_loop().call_later(self._interval, self._start)

    def refused(self) -> None:
        self._held = False

    async def release(self) -> None:
        if not self._held:
            return
        self._held = False
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        # A store that did not respond at first has cost the request one time limit already: do not wait for another.
        await run_to_completion(self._store.release(self._digest, self._slot), wait=not self._degraded)

    @property
    def _interval(self) -> float:
        """Seconds between two renewals."""
        return self._slot.lease_us / SECOND / 3

    def _start(self) -> None:
        self._task = get_running_loop().create_task(self._renew())

    async def _renew(self) -> None:
        while True:
            # A server that has lost its data, or was away for a whole lease, has lost the slot. The request goes on all
            # the same, so its slot is taken again, unless the slot was given back meanwhile.
            if await self._store.renew(self._digest, self._slot) is False and self._held:
                await self._store.renew(self._digest, self._slot, takes=True)
            await sleep(self._interval)


class ReportedLease:
    """A lease whose slot is reported while it is held: for the gauge of slots in use.

    :param lease: the lease of a slot that a request has taken.
    :param emit: emits an event of the request's exchange.
    :param policy: the name of the limit.
    """

    __slots__ = ("_emit", "_lease", "_policy")

    def __init__(self, lease: Lease, emit: Callable[[str, Mapping[str, Any]], None], policy: str) -> None:
        self._lease, self._policy = lease, policy
        self._emit: Callable[[str, Mapping[str, Any]], None] | None = emit
        emit("flexmw.rate_limiting.slot_taken", RateLimitSlot(policy=policy))

    def granted(self, *, degraded: bool) -> None:
        self._lease.granted(degraded=degraded)

    def refused(self) -> None:
        self._lease.refused()

    async def release(self) -> None:
        if self._emit is not None:
            emit, self._emit = self._emit, None
            emit("flexmw.rate_limiting.slot_released", RateLimitSlot(policy=self._policy))
        await self._lease.release()


async def run_to_completion(
    write: Coroutine[Any, Any, None], *, wait: bool = True, longest_wait: float | None = None
) -> None:
    """Run a write to a store to its end, even if the request is cancelled.

    The write runs in a task of its own. Awaiting it in the request's task is not enough: anyio cancels a task again at
    every await.

    :param wait: ``False`` starts the write and returns.
    :param longest_wait: seconds after which this function returns although the write goes on; ``None`` for no limit.
    """
    task = get_running_loop().create_task(write)
    _writes.add(task)
    task.add_done_callback(_writes.discard)
    if longest_wait is None:
        await (shield(task) if wait else sleep(0))
    else:
        await wait_for_tasks((task,), timeout=longest_wait)


def number_of_ends() -> int:
    """How often :func:`finish_writes` was called on this event loop. A write that is repeated stops when it changes."""
    return _ends.get(get_running_loop(), 0)


async def finish_writes() -> None:
    """Wait for the writes that requests have left behind on this event loop, at the end of an app."""
    loop = get_running_loop()
    _ends[loop] = _ends.get(loop, 0) + 1
    tasks = [task for task in _writes if task.get_loop() is loop]
    if tasks:
        await wait_for_tasks(tasks)
