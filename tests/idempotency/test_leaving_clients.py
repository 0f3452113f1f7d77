"""Clients that leave, and requests that are cancelled: the work is finished, and nothing runs twice."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from flexmw.idempotency import Idempotency, sdk
from flexmw.idempotency.stores.memory import MemoryStore
from tests.idempotency.calls import KEYED, Caller, Host, call
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio


async def test_an_sdk_that_left_before_its_replay_is_not_taken_for_one_that_was_refused() -> None:
    store, host = _Slow(), Host()
    app = Idempotency(storage=store, sdk_retries=True).asgi(host)
    await call(app, {"x-stainless-retry-count": "0"})
    async with anyio.create_task_group() as group:
        store.reached, store.proceed = anyio.Event(), anyio.Event()
        group.start_soon(Caller(app, headers={"x-stainless-retry-count": "1"}))
        with anyio.fail_after(LONGEST_WAIT):
            await store.reached.wait()
        group.cancel_scope.cancel()
        store.proceed.set()
    lists = [held.entry async for name, held in store.scan() if ":f:" in name]
    (known,) = sdk.decode(lists[0])
    assert (known.count, known.sent, known.refused, host.runs) == (1, False, False, 1)


async def test_a_first_attempt_that_arrives_after_its_own_retry_is_not_begun() -> None:
    store, host = MemoryStore(), Host()
    app = Idempotency(storage=store, sdk_retries=True).asgi(host)
    retry = await call(app, {"x-stainless-retry-count": "1"})
    late = Caller(app, headers={"x-stainless-retry-count": "0"})
    late.gone.set()
    await late()
    assert (host.runs, late.sent, late.raised) == (1, [], None)
    again = await call(app, {"x-stainless-retry-count": "2"})
    assert (again.answer, again.replayed, host.runs) == (retry.answer, True, 1)


class _Slow(MemoryStore):
    """A store that can be held up before a write."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.proceed = anyio.Event(), anyio.Event()
        self.proceed.set()

    async def swap(self, *arguments: Any, **times: Any) -> Any:
        self.reached.set()
        await self.proceed.wait()
        return await super().swap(*arguments, **times)


async def test_a_client_that_leaves_while_it_sends_its_body_causes_no_execution() -> None:
    host = Host()
    caller = Caller(Idempotency().asgi(host), headers=KEYED)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError(message)

    await caller()
    caller.scope["headers"] = [(b"idempotency-key", b"other")]
    del caller.scope["flexmw"]
    await caller.app(caller.scope, receive, send)
    assert host.runs == 1


async def test_a_client_that_leaves_does_not_stop_the_work() -> None:
    host = Host().hold()
    app = Idempotency().asgi(host)
    caller = Caller(app, headers=KEYED)
    async with anyio.create_task_group() as group:
        group.start_soon(caller)
        await host.started.wait()
        caller.gone.set()
        await anyio.wait_all_tasks_blocked()
        host.proceed.set()
    assert caller.raised is None
    assert (await call(app)).answer == b"run 1"


async def test_the_app_gets_no_disconnect_before_it_has_responded() -> None:
    heard: list[str] = []

    async def work(scope: Any, receive: Any, send: Any) -> None:
        with anyio.move_on_after(0.05):
            heard.append((await receive())["type"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})
        heard.append((await receive())["type"])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await work(scope, receive, send)

    caller = Caller(Idempotency().asgi(app), headers=KEYED)
    caller.gone.set()
    await caller()
    assert heard == ["http.disconnect"]


async def test_a_cancelled_request_is_finished_and_kept_before_the_cancellation_goes_on() -> None:
    host = Host().hold()
    app = Idempotency().asgi(host)
    caller = Caller(app, headers=KEYED)
    async with anyio.create_task_group() as outer:

        async def cancelled() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(caller)
                await host.started.wait()
                group.cancel_scope.cancel()

        outer.start_soon(cancelled)
        await host.started.wait()
        await anyio.wait_all_tasks_blocked()
        host.proceed.set()
    assert (await call(app)).answer == b"run 1"
    assert host.runs == 1


async def test_a_duplicate_that_waits_can_be_cancelled() -> None:
    host = Host().hold()
    app = Idempotency(wait=3600.0).asgi(host)
    async with anyio.create_task_group() as group:
        group.start_soon(Caller(app, headers=KEYED))
        await host.started.wait()
        with anyio.move_on_after(0.05) as scope:
            await Caller(app, headers=KEYED)()
        assert scope.cancelled_caught
        host.proceed.set()
