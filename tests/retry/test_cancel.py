"""Cancelling a call, wherever it is: the cancellation goes through, and the pool stays whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import httpx
import httpx2
import pytest

import flexmw
from flexmw.testing import HostileServer
from tests.waiting import LONGEST_WAIT

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])]


async def cancel_when(happened: Callable[[], None], client: Any, url: str) -> None:
    """Begin a call, cancel it once something has happened."""
    async with anyio.create_task_group() as group:
        group.start_soon(client.get, url)
        await anyio.to_thread.run_sync(happened)
        group.cancel_scope.cancel()


@pytest.mark.parametrize("fault", ["hang", "503:seconds=30", "slow-error", "stall-body"])
async def test_a_cancelled_call_frees_its_connection(library: Any, fault: str) -> None:
    limits = library.Limits(max_connections=1)
    with HostileServer([fault]) as server:
        client = flexmw.wrap_client(
            library.AsyncClient(limits=limits, timeout=LONGEST_WAIT, trust_env=False), flexmw.Retry(max_retry_after=60)
        )
        async with client:
            await cancel_when(lambda: server.wait_for(1, "requests"), client, server.url)
            assert (await client.get(server.url)).status_code == 200


async def test_a_hundred_faulted_calls_leak_no_connection(library: Any) -> None:
    script = ["503:ms=0.001", "rst", "500", "hang", "cut-body", "429:ms=0.001", "fin", "ok"]
    limits = library.Limits(max_connections=1)
    policy = flexmw.Retry(attempts=2, jitter=0.0, budget_per_second=1e6, random=lambda: 0.0)
    with HostileServer(lambda received: script[hash((received.arrived, received.connection)) % len(script)]) as server:
        client = flexmw.wrap_client(library.AsyncClient(limits=limits, timeout=0.02, trust_env=False), policy)
        async with client:
            for _ in range(100):
                with anyio.move_on_after(0.05):
                    try:
                        await client.get(server.url)
                    except library.PoolTimeout:
                        raise
                    except library.HTTPError:
                        pass
            server.follow([])
            assert (await client.get(server.url, timeout=LONGEST_WAIT)).status_code == 200
