"""The effect that calls a function which blocks: in the thread, or from a task in a worker thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest

import flexmw.httpx
from flexmw.kit.effects import Flow, RunBlocking, Send
from flexmw.testing.played import play
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio


class Calls:
    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.outcomes: list[Any] = []

    def flow(self, request: Any) -> Flow:
        try:
            self.outcomes.append((yield RunBlocking(self.function)))
        except LookupError as error:
            self.outcomes.append(error)
        return (yield Send(request))


def answer(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200)


def broken() -> None:
    raise LookupError("nothing there")


async def get(component: Calls) -> None:
    transport = flexmw.httpx.AsyncTransport(component, transport=httpx.MockTransport(answer))
    async with httpx.AsyncClient(transport=transport) as client:
        await client.get("https://api.test/")


def test_a_thread_calls_it_itself() -> None:
    component = Calls(threading.current_thread)
    transport = flexmw.httpx.Transport(component, transport=httpx.MockTransport(answer))
    with httpx.Client(transport=transport) as client:
        client.get("https://api.test/")
    assert component.outcomes == [threading.current_thread()]


async def test_a_task_leaves_it_to_another_thread_and_the_event_loop_runs_on(anyio_backend: str) -> None:
    released = threading.Event()
    component = Calls(lambda: released.wait(LONGEST_WAIT) and threading.current_thread())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(get, component)
        await anyio.lowlevel.checkpoint()
        released.set()
    assert component.outcomes[0] not in (False, threading.current_thread())


async def test_what_it_raises_is_thrown_into_the_flow(anyio_backend: str) -> None:
    component = Calls(broken)
    await get(component)
    assert isinstance(component.outcomes[0], LookupError)


async def test_a_task_that_is_cancelled_does_not_wait_for_it(anyio_backend: str) -> None:
    begun, released = threading.Event(), threading.Event()

    def block() -> None:
        begun.set()
        released.wait(LONGEST_WAIT)

    component = Calls(block)
    try:
        with anyio.fail_after(LONGEST_WAIT):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(get, component)
                await anyio.to_thread.run_sync(begun.wait)
                tasks.cancel_scope.cancel()
    finally:
        released.set()
    assert component.outcomes == []


@pytest.mark.parametrize(("function", "kind"), [(lambda: 7, int), (broken, LookupError)])
def test_a_flow_that_is_played_gets_its_outcome_too(function: Callable[[], Any], kind: type) -> None:
    component = Calls(function)
    played = play(component, [200], httpx.Request("GET", "https://api.test/"))
    assert played.faults == []
    assert played.response.status_code == 200
    assert isinstance(component.outcomes[0], kind)
