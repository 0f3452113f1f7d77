"""A coroutine that begins in one task's turn and ends in another task: all its steps are in the name of the second."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextvars import ContextVar
from typing import Any

import pytest

from flexmw.idempotency.handover import Handover

variable: ContextVar[str] = ContextVar("variable", default="unset")


async def steps(*waits: Any) -> list[Any]:
    """Hand over a coroutine that waits for ``waits``; returns whether it ended at once, and its task and variable."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[Handover] = loop.create_future()
    wake: asyncio.Future[None] = loop.create_future()
    noted: list[Any] = []

    async def finisher() -> None:
        ready.set_result(Handover())
        await wake
        await ready.result().finish()

    async def work() -> None:
        token = variable.set("inside")
        async with asyncio.timeout(60):
            noted.append(asyncio.current_task() is task)
            for wait in waits:
                await wait
                noted.append(asyncio.current_task() is task)
        variable.reset(token)

    task = asyncio.create_task(finisher())
    handover = await ready
    noted.append(handover.begin(work()))
    noted.append(handover.is_pending)
    wake.set_result(None)
    await task
    assert variable.get() == "unset"
    return noted


def test_a_coroutine_that_does_not_wait_ends_at_once() -> None:
    assert asyncio.run(steps()) == [True, True, False]


def test_a_coroutine_that_waits_is_finished_by_the_second_task() -> None:
    async def run() -> list[Any]:
        return await steps(asyncio.sleep(0), asyncio.sleep(0.001))

    assert asyncio.run(run()) == [True, False, True, True, True]


def test_an_awaitable_that_is_no_coroutine_is_begun_too() -> None:
    class Sent:
        def __await__(self) -> Generator[Any, None, None]:
            return asyncio.sleep(0).__await__()

    async def run() -> bool:
        return Handover().begin(Sent())

    assert asyncio.run(run()) is False


def test_what_a_coroutine_raises_at_once_reaches_its_caller() -> None:
    async def failing() -> None:
        raise OSError("gone")

    async def run() -> None:
        Handover().begin(failing())

    with pytest.raises(OSError, match="gone"):
        asyncio.run(run())
