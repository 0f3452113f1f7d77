"""An operator stops an execution: in this process, in another one, and where there is nothing to stop."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import httpx
import pytest

import flexmw
from flexmw.errors import ConfigError
from flexmw.idempotency import Idempotency
from flexmw.idempotency.admin import list_keys, stop
from flexmw.idempotency.stores.memory import MemoryStore
from tests.idempotency.calls import KEYED, Caller, Host
from tests.servers import Serve
from tests.waiting import LONGEST_WAIT, eventually

pytestmark = pytest.mark.anyio


class Stuck:
    """An app that sends ``parts`` of a stream and then never goes on. ``ended`` counts how often it was cancelled."""

    def __init__(self, *parts: bytes) -> None:
        self.parts, self.ended = parts, 0
        self.waits = anyio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.parts:
            headers = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        for part in self.parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        self.waits.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.ended += 1


async def stopped(app: Any, host: Stuck, store: MemoryStore) -> Caller:
    caller = Caller(app, headers=KEYED)
    with anyio.fail_after(LONGEST_WAIT):
        async with anyio.create_task_group() as group:
            group.start_soon(caller)
            await host.waits.wait()
            (known,) = await list_keys(store)
            assert (await stop(store, known.id)).state == "running"
    return caller


def test_an_execution_whose_event_loop_is_closed_is_stopped_by_a_note_in_the_store() -> None:
    host, store = Stuck(), MemoryStore()
    app = Idempotency(storage=store).asgi(host)
    loop = asyncio.new_event_loop()
    task = loop.create_task(Caller(app, headers=KEYED)())
    loop.run_until_complete(host.waits.wait())
    loop.close()

    async def stop_it() -> None:
        (known,) = await list_keys(store)
        assert (await stop(store, known.id)).state == "running"

    asyncio.run(stop_it())
    assert (host.ended, task.done()) == (0, False)


async def test_a_stream_that_is_stopped_ends_with_the_error_that_is_stored() -> None:
    host, store = Stuck(b"data: 1\n\n", b"data: 2\n\ndata"), MemoryStore()
    app = flexmw.wrap_app(host, flexmw.Envelope(), Idempotency(storage=store))
    first = await stopped(app, host, store)
    second = await Caller(app, headers=KEYED)()
    assert (second.status, second.answer, second.replayed) == (200, first.answer, True)
    assert first.answer.startswith(b"data: 1\n\ndata: 2\n\nevent: error")
    assert b"idempotency_ended" in first.answer
    assert (host.ended, first.raised) == (1, None)


async def test_an_app_that_has_not_responded_is_stopped_too() -> None:
    host, store = Stuck(), MemoryStore()
    app = flexmw.wrap_app(host, flexmw.Envelope(), Idempotency(storage=store))
    first = await stopped(app, host, store)
    second = await Caller(app, headers=KEYED)()
    assert (first.status, second.status, second.replayed, host.ended) == (500, 500, True, 1)
    assert json.loads(first.answer) == json.loads(second.answer)
    assert json.loads(second.answer)["error"]["code"] == "idempotency_ended"
    assert second.answer_headers["x-should-retry"] == "false"


async def test_only_a_running_key_can_be_stopped() -> None:
    store = MemoryStore()
    await Caller(Idempotency(storage=store).asgi(Host()), headers=KEYED)()
    (known,) = await list_keys(store, states=("done",))
    with pytest.raises(ConfigError, match="a key that is running; this one is done"):
        await stop(store, known.id)
    with pytest.raises(ConfigError, match="as listed"):
        await stop(store, "nothing")


def test_an_execution_of_another_event_loop_ends_at_its_next_heartbeat(serve: Serve) -> None:
    """As one of another process: only the store tells."""
    host, store = Stuck(b"data: 1\n\n"), MemoryStore()
    app = flexmw.wrap_app(host, flexmw.Envelope(), Idempotency(storage=store, lease=0.6))
    url = serve(app).url
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(httpx.post, url, headers=KEYED, json={}, timeout=LONGEST_WAIT)
        eventually(host.waits.is_set)
        (known,) = anyio.run(list_keys, store)
        anyio.run(stop, store, known.id)
        response = first.result(LONGEST_WAIT)
    assert response.content.startswith(b"data: 1\n\nevent: error")
    eventually(lambda: not anyio.run(list_keys, store))
    replay = httpx.post(url, headers=KEYED, json={}, timeout=LONGEST_WAIT)
    assert (replay.content, replay.headers["idempotent-replayed"]) == (response.content, "true")


async def test_a_response_that_is_complete_before_the_request_to_stop_arrives_is_stored() -> None:
    store, host = MemoryStore(), Host().hold()
    app = Idempotency(storage=store).asgi(host)
    caller = Caller(app, headers=KEYED)
    async with anyio.create_task_group() as group:
        group.start_soon(caller)
        await host.started.wait()
        (known,) = await list_keys(store)
        await anyio.to_thread.run_sync(lambda: anyio.run(stop, store, known.id))
        host.proceed.set()
    second = await Caller(app, headers=KEYED)()
    assert (second.answer, second.replayed) == (caller.answer, True)


async def test_an_app_that_catches_its_cancellation_is_cancelled_again() -> None:
    class Stubborn(Stuck):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            try:
                await super().__call__(scope, receive, send)
            except BaseException:
                await anyio.sleep_forever()

    host, store = Stubborn(), MemoryStore()
    app = flexmw.wrap_app(host, flexmw.Envelope(), Idempotency(storage=store))
    first = await stopped(app, host, store)
    assert (first.status, host.ended) == (500, 1)
    assert b"idempotency_ended" in first.answer


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_request_that_is_stopped_is_not_cancelled_outside_of_its_app(anyio_backend: str) -> None:
    host, store = Stuck(b"data: 1\n\n"), MemoryStore()
    cancelling: list[int] = []
    inner = Idempotency(storage=store).asgi(host)

    async def outside(scope: Any, receive: Any, send: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(flexmw.APIError, match="ended"):
            await inner(scope, receive, send)
        cancelling.append(task.cancelling())

    await stopped(outside, host, store)
    assert (cancelling, host.ended) == ([0], 1)
