"""Waits that a server names cost no budget; an outage does."""

from __future__ import annotations

from typing import Any

import anyio
import httpx
import pytest

import flexmw
from flexmw.testing import FakeClock, play


class TwentyASecond:
    """Admits 20 requests a second and refuses the others until the next second; time is the number of rounds."""

    def __init__(self) -> None:
        self.round, self.admitted = 0, 0

    def __call__(self, request: Any) -> httpx.Response:
        self.admitted += 1
        if self.admitted <= 20:
            return httpx.Response(200)
        return httpx.Response(429, headers={"retry-after": "1"}, json={})

    def next(self) -> None:
        self.admitted = 0


class Rounds(FakeClock):
    """A clock on which all that sleep wake up together, at the beginning of the next second."""

    def __init__(self, server: TwentyASecond) -> None:
        super().__init__()
        self.server, self.woken = server, anyio.Event()

    async def asleep(self, seconds: float) -> None:
        await self.woken.wait()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_burst_of_refusals_is_no_outage(anyio_backend: str) -> None:
    server = TwentyASecond()
    clock = Rounds(server)
    statuses: list[int] = []
    transport = httpx.MockTransport(server)
    policy = flexmw.Retry(attempts=7, clock=clock)
    async with flexmw.wrap_client(httpx.AsyncClient(transport=transport), policy, clock=clock) as client:

        async def call() -> None:
            statuses.append((await client.post("http://test")).status_code)

        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(call)
            while len(statuses) < 100:
                await anyio.wait_all_tasks_blocked()
                server.next()
                woken, clock.woken = clock.woken, anyio.Event()
                woken.set()
    assert statuses == [200] * 100


def test_a_wait_that_the_server_names_costs_nothing_and_any_other_does() -> None:
    policy = flexmw.Retry(attempts=2, budget_ratio=0.0, budget_per_second=0.0, clock=FakeClock())
    request: Any = httpx.Request("POST", "http://test")
    named = httpx.Response(429, headers={"retry-after": "1"}, json={})
    for _ in range(5):
        assert play(policy, [named, 200], request).response.status_code == 200
    assert play(policy, [429, 200], request).response.status_code == 200
    assert play(policy, [429, 200], request).response.status_code == 429
