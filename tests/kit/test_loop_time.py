"""A store that does not respond costs a decision its timeout once.

The promise in SECURITY.md: "A store that is half dead costs a request its `store_timeout` once".
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from flexmw.kit.loop_time import StoreTimeout

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


async def test_a_timeout_that_is_not_reached_cancels_nothing() -> None:
    with StoreTimeout(5.0):
        await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_timeout_that_is_reached_raises_and_takes_its_cancellation_back() -> None:
    with pytest.raises(TimeoutError, match="did not answer in time"), StoreTimeout(0.01):
        await asyncio.sleep(10)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_cancellation_that_the_store_s_driver_swallows_is_not_lost() -> None:
    entered = asyncio.Event()

    async def swallowing() -> None:
        with StoreTimeout(5.0):
            entered.set()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    task = asyncio.create_task(swallowing())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
