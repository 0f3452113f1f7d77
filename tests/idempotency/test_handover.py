"""Work that begins in one task's turn and goes on in another task: all its steps are in the name of the second."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextvars import ContextVar
from typing import Any

import pytest

from flexmw.idempotency.handover import READY, REFUSED, Handover, work_of
from flexmw.idempotency.task_identity import running_tasks

variable: ContextVar[str] = ContextVar("variable", default="unset")


def calling(function: Callable[[Any], Any]) -> Callable[[Handover], Generator[Any, Any, None]]:
    """Work that awaits a function of each value, and refuses ``None``."""

    @work_of
    def work(handover: Handover) -> Generator[Any, Any, None]:
        loop = handover.loop
        value = yield READY
        while True:
            if value is not None:
                handover.caller, running_tasks[loop] = running_tasks[loop], handover.task
                try:
                    yield from function(value)
                except GeneratorExit:
                    raise
                except BaseException:
                    running_tasks[loop] = handover.caller
                    raise
                running_tasks[loop] = handover.caller
            value = yield REFUSED if value is None else READY

    return work


def send(handover: Handover, value: Any) -> Any:
    """Send a value from another task."""
    return handover.run(handover.send, value)


def begin(handover: Handover, value: Any) -> bool:
    """Begin a step from another task. Returns whether it is over."""
    awaited = send(handover, value)
    if awaited is READY:
        return True
    handover.leave(awaited)
    return False


async def steps(*waits: Awaitable[None]) -> list[Any]:
    """Hand over a step that waits for ``waits``; returns whether it ended at once, and its task and variable."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[Handover] = loop.create_future()
    wake: asyncio.Future[None] = loop.create_future()
    noted: list[Any] = []

    async def finisher() -> None:
        ready.set_result(Handover(calling(work)))
        await wake
        await ready.result().finish()

    async def work(waits: Any) -> None:
        token = variable.set("inside")
        async with asyncio.timeout(60):
            noted.append(asyncio.current_task() is task)
            for wait in waits:
                await wait
                noted.append(asyncio.current_task() is task)
        variable.reset(token)

    task = asyncio.create_task(finisher())
    handover = await ready
    noted.append(begin(handover, waits))
    noted.append(handover.is_pending)
    wake.set_result(None)
    await task
    assert variable.get() == "unset"
    assert not handover.is_pending
    return noted


def test_a_step_that_does_not_wait_ends_at_once() -> None:
    assert asyncio.run(steps()) == [True, True, False]


def test_a_step_that_waits_is_finished_by_the_second_task() -> None:
    async def run() -> list[Any]:
        return await steps(asyncio.sleep(0), asyncio.sleep(0.001))

    assert asyncio.run(run()) == [True, False, True, True, True]


def test_a_value_that_the_work_refuses_leaves_nothing_to_finish() -> None:
    async def run() -> tuple[bool, bool]:
        handover = Handover(calling(asyncio.sleep))
        refused = send(handover, None) is REFUSED
        handover.leave(REFUSED)
        await handover.finish()
        return refused, begin(handover, 0)

    assert asyncio.run(run()) == (True, False)


def test_what_a_step_raises_at_once_reaches_its_caller_as_itself() -> None:
    async def failing(_: Any) -> None:
        raise OSError("gone")

    async def run() -> None:
        task = asyncio.current_task()
        handover = Handover(calling(failing))
        try:
            begin(handover, 1)
        finally:
            assert asyncio.current_task() is task

    with pytest.raises(OSError, match="gone"):
        asyncio.run(run())


def test_a_cancelled_second_task_cancels_the_step() -> None:
    async def waiting(cancelled: list[bool]) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def run() -> list[bool]:
        begun = asyncio.Event()
        cancelled: list[bool] = []

        async def second() -> None:
            handover = Handover(calling(waiting))
            begin(handover, cancelled)
            begun.set()
            await handover.finish()

        task = asyncio.create_task(second())
        await begun.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return cancelled

    assert asyncio.run(run()) == [True]
