"""Work that is finished whatever becomes of the task that asked for it."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

from flexmw.idempotency import Held, Idempotency
from flexmw.idempotency.stores.memory import MemoryStore
from flexmw.idempotency.uncancelled import run_to_completion
from tests.idempotency.calls import KEYED, Caller, Host
from tests.waiting import LONGEST_WAIT

VALUE: ContextVar[str] = ContextVar("value", default="unset")


async def nothing() -> None: ...


def ignore() -> None: ...


@pytest.mark.anyio
async def test_what_the_work_raises_is_raised() -> None:
    async def broken() -> None:
        raise LookupError("the work's own")

    with pytest.raises(LookupError, match="the work's own"):
        await run_to_completion(broken(), ignore)


@pytest.mark.anyio
async def test_context_variables_go_in_and_come_out() -> None:
    seen: list[str] = []

    async def work() -> None:
        seen.append(VALUE.get())
        VALUE.set("by the work")

    VALUE.set("by the caller")
    await run_to_completion(work(), ignore)
    assert (seen, VALUE.get()) == (["by the caller"], "by the work")


@pytest.mark.anyio
async def test_a_scope_that_is_cancelled_waits_for_the_work_and_reports_the_cancellation() -> None:
    given_up, done, go_on = anyio.Event(), [], anyio.Event()

    async def work() -> None:
        await go_on.wait()
        done.append("work")

    async with anyio.create_task_group() as group:

        async def asking() -> None:
            with anyio.CancelScope() as scope:
                group.start_soon(cancel, scope)
                await run_to_completion(work(), given_up.set)
                done.append("asking went on")

        async def cancel(scope: anyio.CancelScope) -> None:
            scope.cancel()
            await given_up.wait()
            go_on.set()

        group.start_soon(asking)
    assert done == ["work"]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_task_that_is_cancelled_again_and_again_still_waits(anyio_backend: str) -> None:
    given_up, go_on, done = asyncio.Event(), asyncio.Event(), []

    async def work() -> None:
        await go_on.wait()
        done.append("work")

    before = asyncio.all_tasks()
    task = asyncio.ensure_future(run_to_completion(work(), given_up.set))
    await asyncio.sleep(0)
    for _ in range(3):
        task.cancel()
        await given_up.wait()
        await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["work"]
    assert asyncio.all_tasks() == before


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_error_of_cancelled_work_is_raised_and_not_reported_as_lost(anyio_backend: str) -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
    go_on = asyncio.Event()

    async def broken() -> None:
        await go_on.wait()
        raise LookupError

    task = asyncio.ensure_future(run_to_completion(broken(), go_on.set))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(LookupError):  # raised in its place: the error of the work would be in no log
        await task
    del task
    await asyncio.sleep(0)
    assert reported == []


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_request_whose_task_is_cancelled_is_finished_and_kept(anyio_backend: str) -> None:
    host = Host().hold()
    app = Idempotency().asgi(host)
    task = asyncio.create_task(Caller(app, headers=KEYED)())
    await host.started.wait()
    task.cancel()
    await asyncio.sleep(0)
    host.proceed.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    replay = await Caller(app, headers=KEYED)()
    assert (replay.answer, replay.replayed, host.runs) == (b"run 1", True, 1)


def test_work_that_is_cut_off_with_its_event_loop_is_unknown_at_once() -> None:
    host = Host().hold()
    app = Idempotency(lease=3600.0).asgi(host)

    async def cut_off() -> None:
        task = asyncio.create_task(Caller(app, headers=KEYED)())
        await host.started.wait()
        assert not task.done()

    asyncio.run(cut_off())
    retry = asyncio.run(Caller(app, headers=KEYED)())
    assert b"idempotency_unknown" in retry.answer
    assert host.runs == 1


class Interrupted(MemoryStore):
    """A store that cancels all tasks, as ``asyncio.run`` does at its end, once a write has been carried out.

    :param number: the write, from 1.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self._left = number

    async def swap(self, key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float) -> Held | None:
        held = await super().swap(key, expected, token, entry, lease=lease, ttl=ttl)
        self._left -= 1
        if not self._left:
            asyncio.get_running_loop().call_soon(cancel_all)
            await asyncio.sleep(LONGEST_WAIT)
        return held


def cancel_all() -> None:
    for task in asyncio.all_tasks():
        if task.get_name() != "test":
            task.cancel()


def cancelled_and_repeated(app: Any, headers: dict[str, str]) -> tuple[Caller, Caller]:
    """A request that is cancelled with all other tasks, and its repetition."""

    async def run() -> tuple[Caller, Caller]:
        task = asyncio.current_task()
        assert task is not None
        task.set_name("test")
        first = Caller(app, headers=headers)
        async with asyncio.timeout(LONGEST_WAIT):
            with pytest.raises(asyncio.CancelledError):
                await asyncio.create_task(first())
            return first, await Caller(app, headers=headers)()

    return asyncio.run(run())


@pytest.mark.parametrize("headers", [KEYED, {"x-stainless-retry-count": "0"}])
def test_a_claim_that_is_cancelled_with_its_event_loop_is_given_back(headers: dict[str, str]) -> None:
    host = Host()
    store = Interrupted(number=1 if headers is KEYED else 2)
    _, second = cancelled_and_repeated(Idempotency(storage=store, sdk_retries=True).asgi(host), headers)
    assert (second.answer, second.replayed, host.runs) == (b"run 1", False, 1)


@pytest.mark.parametrize(
    "host",
    [Host(), Host(error=ValueError("the work's own")), Host(parts=(b"part", b""))],
    ids=["whole", "error", "parts"],
)
def test_an_outcome_whose_write_is_cancelled_with_its_event_loop_is_written(host: Host) -> None:
    _, second = cancelled_and_repeated(Idempotency(storage=Interrupted(number=2)).asgi(host), dict(KEYED))
    assert (second.status, second.replayed, host.runs) == (500 if host.error else 200, True, 1)


def test_a_stream_that_is_cancelled_with_its_event_loop_before_it_is_sent_ends() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        asyncio.get_running_loop().call_soon(cancel_all)
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})

    first, second = cancelled_and_repeated(Idempotency().asgi(app), dict(KEYED))
    assert first.answer == b""
    assert b"idempotency_unknown" in second.answer
