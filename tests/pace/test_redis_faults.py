"""Pace with a store whose replies are lost or late, and with calls that are cancelled while they wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx
import pytest
from redis import Redis

import flexmw.httpx
from flexmw.pace import Pace
from flexmw.pace.redis import PREFIX, SharedState, load
from flexmw.pace.registry import caller_of
from flexmw.testing import FakeClock
from tests.pace.states import reading_of, turn
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio


@dataclass
class FaultyClient:
    """A client of a real redis whose replies can be lost after the command was executed, or be held back."""

    client: Any
    lost_replies: int = 0
    released: threading.Event = field(default_factory=threading.Event)
    asked: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.released.set()

    def register_script(self, text: str) -> Callable[..., Any]:
        script = self.client.register_script(text)

        def run(keys: list[str], args: list[Any]) -> Any:
            reply = script(keys=keys, args=args)
            self.asked.set()
            assert self.released.wait(10.0)
            if self.lost_replies and reply[0] == 1:
                self.lost_replies -= 1
                raise TimeoutError("the reply was lost")
            return reply

        return run


@pytest.fixture
def faulty_client(redis_url: str) -> Any:
    with Redis.from_url(redis_url) as client:
        yield FaultyClient(client)


def test_a_turn_whose_reply_was_lost_is_not_counted_twice(faulty_client: FaultyClient) -> None:
    shared = SharedState(lambda: faulty_client, "k", patience=5.0, clock=FakeClock())
    faulty_client.lost_replies = 1
    assert shared.enter(turn)[1] is None
    assert shared.enter(turn)[1] is not None
    assert shared._state.in_flight == 1


def test_a_recorded_response_whose_reply_was_lost_is_not_counted_twice(faulty_client: FaultyClient) -> None:
    shared = SharedState(lambda: faulty_client, "k", patience=5.0, clock=FakeClock())
    first: Any = shared.enter(turn)[1]
    shared.record(lambda state, now: state.finish(first, now=now, reading=reading_of(5, 4, 60.0)))
    second: Any = shared.enter(turn)[1]
    third = shared.enter(turn)[1]
    faulty_client.lost_replies = 1
    shared.record(lambda state, now: state.finish(second, now=now, reading=reading_of(5, 3, 60.0)))
    assert third is not None
    assert shared._state.in_flight == 1
    assert load(faulty_client.client.get(f"{PREFIX}k")).in_flight == 1


def test_record_later_does_not_wait_for_a_thread_that_talks_to_the_store(faulty_client: FaultyClient) -> None:
    shared = SharedState(lambda: faulty_client, "k", patience=5.0, clock=FakeClock())
    flight = shared.enter(turn)[1]
    assert flight is not None
    faulty_client.asked.clear()
    faulty_client.released.clear()
    worker = threading.Thread(target=lambda: shared.enter(turn))
    worker.start()
    try:
        assert faulty_client.asked.wait(10.0)
        shared.record_later(lambda state, now: state.fail(flight, now=now, unsent=True))  # returns, or the test hangs
        assert worker.is_alive()
    finally:
        faulty_client.released.set()
        worker.join(10.0)
    assert shared.enter(turn)[1] is not None


async def test_a_turn_that_arrives_after_its_call_was_cancelled_is_given_back(
    faulty_client: FaultyClient, redis_url: str, anyio_backend: str
) -> None:
    request: Any = httpx.Request("GET", f"https://left-{anyio_backend}.example/")
    url, pace = str(request.url), Pace(storage=redis_url, patience=60.0)
    shared = pace._registry.shared(caller_of(request))
    shared._client = lambda: faulty_client
    seen: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200)

    transport = flexmw.httpx.AsyncTransport(pace, transport=httpx.MockTransport(respond))
    async with httpx.AsyncClient(transport=transport) as client:
        faulty_client.released.clear()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.get, url)
                await anyio.to_thread.run_sync(faulty_client.asked.wait)
                tasks.cancel_scope.cancel()
        finally:
            faulty_client.released.set()
        assert seen == []
        with anyio.fail_after(LONGEST_WAIT):
            assert (await client.get(url)).status_code == 200
    assert load(faulty_client.client.get(shared._key)).in_flight == 0
