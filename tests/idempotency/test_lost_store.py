"""Requests whose store fails: before the app runs, while a duplicate waits, and when the response is stored."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from flexmw.idempotency import Idempotency
from flexmw.idempotency.stores.memory import MemoryStore
from flexmw.testing import FakeClock
from tests.idempotency.calls import KEYED, Caller, Host, call, code
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio


async def test_a_store_that_fails_while_a_duplicate_waits_is_reported_as_such() -> None:
    clock, host = FakeClock(), Host().hold()
    store = _Broken(clock=clock)
    app = Idempotency(storage=store, wait=3600.0, lease=1e6, clock=clock).asgi(host)
    second = Caller(app, headers=KEYED)
    async with anyio.create_task_group() as group:
        group.start_soon(Caller(app, headers=KEYED))
        await host.started.wait()
        store.blind = True
        await second()
        store.blind = False
        host.proceed.set()
    assert (second.raised, second.status, code(second)) == (None, 503, "service_unavailable")
    assert host.runs == 1


async def test_a_request_that_runs_without_its_store_does_not_claim_that_keys_are_honoured() -> None:
    store = _Broken()
    app = Idempotency(storage=store, on_store_failure="run").asgi(Host())
    assert "idempotency-key-ttl" in (await call(app)).answer_headers
    store.away = True
    assert "idempotency-key-ttl" not in (await call(app, {"Idempotency-Key": "other"})).answer_headers


class _Broken(MemoryStore):
    """A store that can be taken away."""

    away = blind = False

    async def load(self, key: str) -> Any:
        if self.blind:
            raise ConnectionError("the store is away")
        return await super().load(key)

    async def swap(self, key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float) -> Any:
        if self.away:
            raise ConnectionError("the store is away")
        return await super().swap(key, expected, token, entry, lease=lease, ttl=ttl)


async def test_without_its_store_a_keyed_request_is_refused_and_not_run() -> None:
    store, host = _Broken(), Host()
    store.away = True
    refused = await call(Idempotency(storage=store).asgi(host))
    assert (refused.status, code(refused), host.runs) == (503, "service_unavailable", 0)
    assert refused.answer_headers["retry-after"] == "1"
    passed = await call(Idempotency(storage=store, on_store_failure="run").asgi(host))
    assert (passed.status, host.runs) == (200, 1)


async def test_a_response_is_stored_when_the_store_comes_back() -> None:
    clock, host = FakeClock(), Host().hold()
    store = _Broken(clock=clock)
    app = Idempotency(storage=store, clock=clock, lease=3600.0).asgi(host)
    first = Caller(app, headers=KEYED)

    async def back() -> None:
        await first.complete.wait()
        store.away = False

    async with anyio.create_task_group() as group:
        group.start_soon(first)
        group.start_soon(back)
        await host.started.wait()
        store.away = True
        host.proceed.set()
    assert first.answer == b"run 1"
    assert (await call(app)).answer == b"run 1"


async def test_a_caller_does_not_wait_for_an_exception_until_a_lost_store_comes_back() -> None:
    store = _Broken()

    async def work(scope: Any, receive: Any, send: Any) -> None:
        store.away = True
        raise LookupError

    app = Idempotency(storage=store, lease=60.0, store_timeout=0.05).asgi(Host(work=work))
    with anyio.fail_after(LONGEST_WAIT):
        caller = await call(app)
    assert isinstance(caller.raised, LookupError)
