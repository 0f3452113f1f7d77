"""A nested task: a cancellation from outside does not reach the work, and one inside the work does not leave it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from flexmw.idempotency.nested_task import NestedTask, run_nested

Work = Callable[[], Awaitable[None]]


def nothing() -> None: ...


async def nested(work: Work, on_cancel: Callable[[], None] = nothing) -> None:
    async def coroutine() -> None:
        await work()

    await run_nested(coroutine(), on_cancel)


def test_a_timeout_inside_the_work_ends_what_it_is_around() -> None:
    done: list[str] = []

    async def work() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.sleep(60)
        with anyio.move_on_after(0.001) as scope:
            await anyio.sleep(60)
        assert scope.cancelled_caught
        task = asyncio.current_task()
        assert task is not None
        assert (task.cancelling(), task.done()) == (0, False)
        done.append("work")

    asyncio.run(nested(work))
    assert done == ["work"]


def test_a_task_group_inside_the_work_ends_with_the_error_of_its_child() -> None:
    async def broken() -> None:
        raise LookupError

    async def in_a_group_of_asyncio() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(broken())
            await asyncio.sleep(60)

    async def in_a_group_of_anyio() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(broken)
            await anyio.sleep(60)

    async def work() -> None:
        for group in (in_a_group_of_asyncio, in_a_group_of_anyio):
            with pytest.raises(ExceptionGroup) as caught:
                await group()
            assert isinstance(caught.value.exceptions[0], LookupError)

    asyncio.run(nested(work))


def test_work_that_cancels_itself_is_cancelled_where_it_waits_next() -> None:
    reached: list[str] = []

    async def work() -> None:
        task = asyncio.current_task()
        assert isinstance(task, NestedTask)
        task.cancel("by itself")
        reached.append("cancelled")
        await asyncio.sleep(60)
        reached.append("too far")

    async def main() -> None:
        with pytest.raises(asyncio.CancelledError, match="by itself"):
            await nested(work)
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]

    asyncio.run(main())
    assert reached == ["cancelled"]


def test_the_work_has_a_task_of_its_own_that_others_see_while_it_waits() -> None:
    seen: list[tuple[Any, ...]] = []

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        await asyncio.sleep(0)
        seen.append((task in asyncio.all_tasks(), task.get_name(), task.get_coro() is not None, task.get_stack() != []))
        task.add_done_callback(lambda done: seen.append((done.cancelled(), done.exception())))

    async def main() -> None:
        host = asyncio.current_task()
        assert host is not None
        host.set_name("of the request")
        await nested(work)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {host}

    asyncio.run(main())
    assert seen == [(True, "of the request", True, True), (False, None)]


@pytest.mark.parametrize("turns", range(12))
def test_work_whose_host_is_cancelled_at_any_turn_goes_on_to_its_end(turns: int) -> None:
    done: list[str] = []
    reports: list[str] = []

    async def work() -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future
        with anyio.CancelScope():
            await checkpoint()
        other = loop.create_task(asyncio.sleep(0))
        await other
        failing = loop.create_future()
        loop.call_soon(failing.set_exception, LookupError())
        with pytest.raises(LookupError):
            await failing
        async with asyncio.timeout(60):
            await asyncio.sleep(0.0001)
        done.append("work")

    async def main() -> None:
        task = asyncio.create_task(nested(work, lambda: reports.append("cancelled")))
        for _ in range(turns + 1):
            await asyncio.sleep(0)
        task.cancel()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert (done, reports) == (["work"], ["cancelled"])


def test_a_host_and_its_work_that_are_cancelled_together_both_end() -> None:
    async def work() -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        task = asyncio.create_task(nested(work))
        await asyncio.sleep(0)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert len(others) == 2
        for each in others:
            each.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert all(each.done() for each in others)

    asyncio.run(main())


def test_what_the_end_of_the_event_loop_cancels_is_no_crash_of_its_own() -> None:
    """The host raises the error of the work. asyncio logged it besides, as an unhandled exception of the task."""
    logged: list[Any] = []
    hosts: list[asyncio.Task[None]] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise LookupError from None

    async def host() -> None:
        with pytest.raises(LookupError):
            await nested(work)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: logged.append(context))
        hosts.append(asyncio.create_task(host()))
        await asyncio.sleep(0)

    asyncio.run(main())
    assert (hosts[0].done(), hosts[0].cancelled(), logged) == (True, False, [])


def test_a_scope_that_stays_cancelled_does_not_keep_the_event_loop_busy() -> None:
    busy: list[int] = []

    async def main() -> None:
        go_on, left = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            await go_on.wait()

        async def request() -> None:
            await nested(work, left.set)

        async with anyio.create_task_group() as group:
            group.start_soon(request)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await left.wait()
                await asyncio.sleep(0)
                loop = asyncio.get_running_loop()
                for _ in range(3):
                    await asyncio.sleep(0)
                    busy.append(len(loop._ready))  # type: ignore[attr-defined]
                go_on.set()

    asyncio.run(main())
    assert busy == [0, 0, 0]


def test_work_that_does_not_wait_needs_no_turn_of_the_event_loop_and_no_task() -> None:
    created: list[object] = []

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        created.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **options)

    async def work() -> None:
        pass

    async def waiting() -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        request = nested(work)
        with pytest.raises(StopIteration):
            request.send(None)  # type: ignore[attr-defined]
        await nested(waiting)
        asyncio.get_running_loop().set_task_factory(None)

    asyncio.run(main())
    assert created == []


def test_one_nested_task_inside_another_is_cancelled_alone() -> None:
    order: list[str] = []

    async def inner() -> None:
        await asyncio.sleep(0.01)
        order.append("inner")

    async def outer() -> None:
        try:
            async with asyncio.timeout(0.001):
                await nested(inner)
        except TimeoutError:
            order.append("outer")

    asyncio.run(nested(outer))
    assert order == ["inner", "outer"]


def test_a_bad_yield_of_the_work_is_an_error_in_the_work() -> None:
    class Odd:
        def __await__(self) -> Any:
            yield "no future"

    async def work() -> None:
        with pytest.raises(RuntimeError, match="bad yield"):
            await Odd()

    asyncio.run(nested(work))


def test_the_work_is_closed_with_its_host() -> None:
    closed: list[str] = []

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            closed.append("work")

    async def main() -> None:
        request = nested(work)
        request.send(None)  # type: ignore[attr-defined]
        request.close()  # type: ignore[attr-defined]

    asyncio.run(main())
    assert closed == ["work"]


def test_a_nested_task_needs_a_task_of_asyncio() -> None:
    async def work() -> None: ...

    loop = asyncio.new_event_loop()
    errors: list[str] = []

    def outside_of_tasks() -> None:
        with pytest.raises(RuntimeError, match="no task") as caught:
            nested(work).send(None)  # type: ignore[attr-defined]
        errors.append(str(caught.value))
        loop.stop()

    loop.call_soon(outside_of_tasks)
    loop.run_forever()
    loop.close()
    assert errors == ["asyncio runs no task here"]
