"""The store in memory: records stay as they are in the process, and everybody else reads them as bytes."""

from __future__ import annotations

from typing import Any

import pytest

import flexmw
from flexmw.idempotency import Idempotency
from flexmw.idempotency.core import Record, StoredResponse
from flexmw.idempotency.stores import LogStore, Store
from flexmw.idempotency.stores.memory import MemoryStore
from flexmw.testing import FakeClock
from tests.idempotency.calls import KEYED, Caller, Host

pytestmark = pytest.mark.anyio

RUNNING = Record(phase="running", key="", fingerprint="f", at=1.0, generation="g")


async def test_a_keyed_request_encodes_and_decodes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Idempotency().asgi(Host())

    def refuse(*arguments: Any) -> Any:
        raise AssertionError("a record was encoded")

    monkeypatch.setattr("flexmw.idempotency.core.json.dumps", refuse)
    monkeypatch.setattr("flexmw.idempotency.core.json.loads", refuse)
    first = await Caller(app, headers=KEYED)()
    replay = await Caller(app, headers=KEYED)()
    assert (first.raised, replay.raised, replay.replayed, replay.answer) == (None, None, True, b"run 1")


async def test_everybody_else_reads_the_records_as_bytes() -> None:
    store = MemoryStore()
    await Caller(Idempotency(storage=store).asgi(Host()), headers=KEYED)()
    ((name, held),) = [item async for item in store.scan()]
    loaded = await store.load(name)
    lost_race = await store.swap(name, "another token", "t", b"", lease=1.0, ttl=1.0)
    for found in (held, loaded, lost_race):
        assert found is not None
        record = Record.decode(found.entry)
        assert isinstance(found.entry, bytes)
        assert (record.phase, record.response and record.response.body) == ("done", b"run 1")


async def test_what_a_handler_changes_after_it_has_recorded_it_is_not_recorded() -> None:
    async def work(scope: Any, receive: Any, send: Any) -> None:
        execution = flexmw.execution()
        if execution.attempt == 1:
            values = [1]
            await execution.record("values", values)
            values.append(2)
            raise flexmw.RateLimitExceeded(1.0)
        assert dict(execution.steps) == {"values": [1]}

    app = Idempotency().asgi(Host(work=work))
    await Caller(app, headers=KEYED)()
    second = await Caller(app, headers=KEYED)()
    assert (second.raised, second.answer) == (None, b"run 2")


async def test_records_and_the_logs_of_responses_count_as_bytes() -> None:
    clock = FakeClock()
    store = MemoryStore(max_bytes=4096, clock=clock)
    records = store.records()
    assert isinstance(records, Store)
    assert isinstance(records, LogStore)
    done = Record(
        phase="done",
        key="",
        fingerprint="f",
        at=1.0,
        response=StoredResponse(status=200, headers=(("content-type", "text/plain"),), body=b"x" * 1500, size=1500),
    )
    for number in range(3):
        await records.swap(f"k{number}", "", "t", done.as_entry(), lease=0.0, ttl=60.0)
    assert [name async for name, _ in records.scan()] == ["k2"]
    assert await records.drop("k2", "t")
    assert await records.swap("k3", "", "t", RUNNING.as_entry(), lease=1.0, ttl=60.0)
    assert await records.append("k3", "t", "g", 0, b"x" * 3000, lease=1.0, ttl=60.0)
    held = await records.load("k3")
    assert held is not None
    assert Record.decode(held.entry) is RUNNING
