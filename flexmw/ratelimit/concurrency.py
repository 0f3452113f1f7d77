"""The slot that one request holds, from before it is asked for until it is given back.

A slot in a store over a network is a lease: it is renewed while the request runs, and it ends when the process is gone.
Nothing is started for a request that is over before a third of the lease has passed.
"""

from __future__ import annotations

from asyncio import Task, TimerHandle, get_running_loop, shield, sleep, wait
from collections.abc import Coroutine
from secrets import token_hex
from typing import Any, Final

from flexmw.ratelimit.core import SECOND, Slot
from flexmw.ratelimit.fallback import check_loop
from flexmw.ratelimit.limiter import Limiter

__all__ = ["Lease", "carried_out", "shielded"]

_running: Final[set[Task[None]]] = set()


class Lease:
    """One request's slot. It counts as held until the store has refused it: a store that did not answer may have given
    it all the same."""

    __slots__ = ("_degraded", "_digest", "_held", "_limiter", "_task", "_timer", "slot")

    def __init__(self, limiter: Limiter, digest: str, most: int, seconds: float) -> None:
        if limiter.memory is None:
            check_loop()
        self._limiter = limiter
        self._digest = digest
        # Nothing that a process could share with one that it was forked from.
        self.slot = Slot(token_hex(8), most, int(seconds * SECOND))
        self._held = True
        self._degraded = False
        self._timer: TimerHandle | None = None
        self._task: Task[None] | None = None

    def refused(self) -> None:
        """There was none to be had."""
        self._held = False

    def keep(self, *, degraded: bool) -> None:
        """Renew it from now on. In this process's memory it needs no renewing. ``degraded``: the store did not answer,
        and the request does not wait for it a second time when the slot goes back."""
        self._degraded = degraded
        if self._limiter.memory is None and not degraded:
            self._timer = get_running_loop().call_later(self._third, self._start)

    async def release(self) -> None:
        """Give it back, once, whatever becomes of the task that asks for it."""
        if not self._held:
            return
        self._held = False
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        await shielded(self._limiter, self._limiter.release(self._digest, self.slot), awaited=not self._degraded)

    @property
    def _third(self) -> float:
        return self.slot.lease_us / SECOND / 3

    def _start(self) -> None:
        self._task = get_running_loop().create_task(self._renew())

    async def _renew(self) -> None:
        while True:
            await self._limiter.renew(self._digest, self.slot)
            await sleep(self._third)


async def shielded(limiter: Limiter, work: Coroutine[Any, Any, None], *, awaited: bool = True) -> None:
    """Tell the store something that it has to hear although the request was cancelled: by asyncio, or by anyio, which
    cancels again at every await. Memory hears it without one. Not ``awaited``, it is begun and left alone."""
    if limiter.memory is not None:
        await work
        return
    task = get_running_loop().create_task(work)
    _running.add(task)
    task.add_done_callback(_running.discard)
    await (shield(task) if awaited else sleep(0))


async def carried_out() -> None:
    """Wait for what was begun on this event loop and left behind by a cancelled request."""
    loop = get_running_loop()
    tasks = [task for task in _running if task.get_loop() is loop]
    if tasks:
        await wait(tasks)
