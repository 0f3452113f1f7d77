"""An eager task: it begins at once, behaves as a task of asyncio, and mostly ends where it is stopped."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any
from weakref import ref

import anyio
import pytest

from flexmw.idempotency.eager_task import EagerTask
from flexmw.idempotency.side_tasks import AsyncioTasks

Work = Callable[[list[str]], Coroutine[Any, Any, None]]

NAME: ContextVar[str] = ContextVar("name", default="outside")


def eager(work: Coroutine[Any, Any, None]) -> EagerTask:
    task = asyncio.current_task()
    assert task is not None
    return EagerTask(work, task)


async def event(done: list[str]) -> None:
    await asyncio.Event().wait()


async def queue(done: list[str]) -> None:
    await asyncio.Queue[int]().get()


async def timeout_of_asyncio(done: list[str]) -> None:
    async with asyncio.timeout(60):
        await asyncio.sleep(60)


async def scope_of_anyio(done: list[str]) -> None:
    with anyio.fail_after(60):
        await anyio.sleep(60)


async def group_of_anyio(done: list[str]) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 60)
        await anyio.sleep(60)


async def another_task(done: list[str]) -> None:
    await asyncio.create_task(asyncio.sleep(60))


async def bare_turn(done: list[str]) -> None:
    while True:  # noqa: ASYNC110 - a bare turn of the event loop is what is tested
        await asyncio.sleep(0)


async def cleans_up(done: list[str]) -> None:
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0)
        done.append("cleaned up")


async def stays(done: list[str]) -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        done.append("stays")
        await asyncio.sleep(0)


WORKS = [event, queue, timeout_of_asyncio, scope_of_anyio, group_of_anyio, another_task, bare_turn, cleans_up, stays]


@pytest.mark.parametrize("turns", [0, 1, 3])
@pytest.mark.parametrize("work", WORKS)
def test_a_task_that_is_stopped_ends_as_a_cancelled_task_of_asyncio_does(work: Work, turns: int) -> None:
    async def ended(start: Callable[[Coroutine[Any, Any, None]], Any], stop: Callable[[Any], Any]) -> list[str]:
        done: list[str] = []
        before = asyncio.all_tasks()
        task = start(work(done))
        for _ in range(1 + turns):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() - before
        stop(task)
        if not task.done():
            await asyncio.wait([task])
        assert asyncio.all_tasks() == before
        return [*done, "cancelled" if task.cancelled() else repr(task.exception())]

    async def main() -> None:
        expected = await ended(asyncio.create_task, lambda task: task.cancel())
        assert await ended(eager, lambda task: task.stop()) == expected

    asyncio.run(main())


class Held:
    """What the work of a task refers to."""


def test_a_task_that_is_stopped_leaves_nothing_to_the_garbage_collector() -> None:
    async def work(held: Held) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        held = Held()
        reference = ref(held)
        task = eager(work(held))
        del held
        assert task.stop()
        del task
        assert reference() is None

    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()


def test_a_task_that_waits_for_a_future_begins_and_ends_without_a_turn_of_the_event_loop() -> None:
    async def main() -> None:
        done: list[str] = []

        async def work() -> None:
            done.append("begun")
            assert asyncio.current_task() is not me
            try:
                await asyncio.Event().wait()
            finally:
                assert asyncio.current_task() is not me
                done.append("ended")

        me = asyncio.current_task()
        task = eager(work())
        assert (done, asyncio.current_task()) == (["begun"], me)
        assert task.stop()
        assert (done, asyncio.current_task(), task.cancelled()) == (["begun", "ended"], me, True)

    asyncio.run(main())


def test_a_task_goes_on_when_its_future_is_done_in_a_context_of_its_own() -> None:
    async def main() -> None:
        future, seen = asyncio.get_running_loop().create_future(), list[str]()

        async def work() -> None:
            NAME.set("inside")
            await asyncio.sleep(0)
            seen.append(await future)
            seen.append(NAME.get())

        task = eager(work())
        await asyncio.sleep(0)
        future.set_result("value")
        await asyncio.wait([task])
        assert (seen, NAME.get(), task.stop()) == (["value", "inside"], "outside", True)

    asyncio.run(main())


def test_a_task_that_is_stopped_when_its_future_is_done_is_cancelled_as_a_task_of_asyncio_is() -> None:
    async def main() -> None:
        future, seen = asyncio.get_running_loop().create_future(), list[str]()

        async def work() -> None:
            seen.append(await future)

        task, reference = eager(work()), asyncio.create_task(work())
        await asyncio.sleep(0)
        future.set_result("value")
        assert task.stop()
        reference.cancel()
        await asyncio.wait([reference])
        assert (seen, task.cancelled(), reference.cancelled()) == ([], True, True)

    asyncio.run(main())


class ForeignFuture:
    """A future as granian's: a wait for one that is done, and that nobody has asked for its result, begins again."""

    def __init__(self) -> None:
        self._asyncio_future_blocking = False
        self.future = asyncio.get_running_loop().create_future()
        self.waits = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.future, name)

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Any = None) -> None:
        self.future.add_done_callback(lambda _: callback(self), context=context)

    def __await__(self) -> Any:
        while not self.done() or self.cancelled():
            assert self.waits < 3, "waits in a loop"
            self.waits += 1
            self._asyncio_future_blocking = True
            yield self
        return self.result()


@pytest.mark.parametrize("end", ["stop", "cancel"])
def test_a_task_that_waits_for_a_future_of_a_server_ends(end: str) -> None:
    async def main() -> None:
        future = ForeignFuture()

        async def work() -> None:
            await future

        task = eager(work())
        if end == "stop":
            assert task.stop()
        else:
            future.cancel()
            await asyncio.wait([task])
        assert (task.cancelled(), future.waits) == (True, 1)

    asyncio.run(main())


def test_the_end_of_side_tasks_raises_what_a_task_has_raised() -> None:
    async def broken() -> None:
        await asyncio.sleep(0)
        raise LookupError

    async def main(work: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.current_task()
        assert task is not None
        side_tasks = AsyncioTasks(task)
        side_tasks.begin(broken)
        await asyncio.sleep(0)
        with pytest.raises(LookupError):
            await side_tasks.end()

    asyncio.run(main(broken))
