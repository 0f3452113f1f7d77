"""A call that is cancelled, timed out from outside or interrupted: what is known of it is on the exception."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import httpx
import httpx2
import pytest

import flexmw
from flexmw.testing import HostileServer
from tests.waiting import LONGEST_WAIT

libraries = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])


@asynccontextmanager
async def client_of(library: Any) -> AsyncIterator[Any]:
    async with library.AsyncClient(timeout=LONGEST_WAIT, trust_env=False) as client:
        yield flexmw.wrap_client(client, flexmw.Retry())


@libraries
@pytest.mark.parametrize("fault", ["hang", "stall-body"])
def test_a_timeout_of_asyncio_says_that_the_call_may_have_been_executed(library: Any, fault: str) -> None:
    async def run(server: HostileServer) -> None:
        async with client_of(library) as client, asyncio.timeout(None) as limit:
            loop = asyncio.get_running_loop()
            arrived = loop.run_in_executor(None, server.wait_for, 1, "executions")
            arrived.add_done_callback(lambda _: limit.reschedule(loop.time()))
            await client.post(server.url, json={})

    with HostileServer([fault]) as server, pytest.raises(TimeoutError) as caught:
        asyncio.run(run(server))
    known = flexmw.outcome_of(caught.value)
    assert known is not None
    assert (known.outcome, known.attempts, known.reason) == ("ambiguous", 1, "cancelled")
    assert len(server.requests) == 1


@libraries
def test_a_call_that_is_cancelled_in_a_wait_was_refused(library: Any) -> None:
    cancel: list[Callable[[], None]] = []

    def cancel_soon(outcome: flexmw.Outcome, delay: float, reason: str) -> None:
        asyncio.get_running_loop().call_soon(cancel[0])

    async def run(server: HostileServer) -> None:
        cancel.append(asyncio.current_task().cancel)  # type: ignore[union-attr, arg-type]
        async with library.AsyncClient(timeout=LONGEST_WAIT, trust_env=False) as plain:
            client = flexmw.wrap_client(plain, flexmw.Retry(on_retry=cancel_soon))
            with pytest.raises(asyncio.CancelledError) as caught:
                await client.post(server.url, json={})
        known = flexmw.outcome_of(caught.value)
        assert known is not None
        assert (known.outcome, known.reason) == ("refused", "cancelled")

    with HostileServer(["503:seconds=30"]) as server:
        asyncio.run(run(server))


@libraries
def test_a_cancellation_of_trio_has_the_outcome_too(library: Any) -> None:
    caught: list[BaseException] = []

    async def run(server: HostileServer) -> None:
        async def post(client: Any) -> None:
            try:
                await client.post(server.url, json={})
            except anyio.get_cancelled_exc_class() as error:
                caught.append(error)
                raise

        async with client_of(library) as client, anyio.create_task_group() as group:
            group.start_soon(post, client)
            await anyio.to_thread.run_sync(server.wait_for, 1, "executions")
            group.cancel_scope.cancel()

    with HostileServer(["hang"]) as server:
        anyio.run(run, server, backend="trio")
    known = flexmw.outcome_of(caught[0])
    assert known is not None
    assert (known.outcome, known.reason) == ("ambiguous", "cancelled")


@libraries
def test_an_interrupted_call_may_have_been_executed(library: Any) -> None:
    def interrupted(request: Any) -> Any:
        raise KeyboardInterrupt

    client = flexmw.wrap_client(library.Client(transport=library.MockTransport(interrupted)), flexmw.Retry())
    with pytest.raises(KeyboardInterrupt) as caught:
        client.post("http://a/", json={})
    known = flexmw.outcome_of(caught.value)
    assert known is not None
    assert (known.outcome, known.reason) == ("ambiguous", "cancelled")
    assert caught.value.__notes__ == [
        "flexmw: given back as ambiguous after 1 attempt, reason: cancelled; the request may have been executed"
    ]
