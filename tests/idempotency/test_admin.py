"""What an operator sees of the keys, and does about the unknown ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import flexmw
from flexmw.errors import ConfigError
from flexmw.idempotency import Idempotency
from flexmw.idempotency.admin import Given, list_keys, resolve
from flexmw.idempotency.core import Record
from flexmw.idempotency.stores import Store
from flexmw.idempotency.stores.memory import MemoryStore
from flexmw.idempotency.stores.open import open_store
from flexmw.testing import FakeClock
from tests.idempotency.calls import KEYED, Caller, Host

pytestmark = pytest.mark.anyio


async def cut_off(store: Store, **changes: Any) -> str:
    """Turn the one key that is done into one whose process vanished."""
    (name, held), *_ = [item async for item in store.scan()]
    record = replace(Record.decode(held.entry), phase="running", response=None, **changes)
    await store.swap(name, held.token, "vanished", record.encode(), lease=0.0, ttl=3600.0)
    return name


async def call(app: Any) -> Caller:
    return await Caller(app, headers=KEYED)()


async def test_keys_are_listed_by_state_with_what_tells_them_apart() -> None:
    store, host = MemoryStore(), Host()
    app = Idempotency(storage=store, sdk_retries=True, labels=("key", "path"), clock=FakeClock(now=5.0)).asgi(host)
    await call(app)
    await Caller(app, headers={"x-stainless-retry-count": "0"})()
    assert await list_keys(store) == []
    keyed, unkeyed = await list_keys(store, states=("done",))
    assert (keyed.key, keyed.what, keyed.at, keyed.attempt, keyed.status) == ("8e03978e", "POST /orders", 5.0, 1, 200)
    assert len(unkeyed.key) == 32
    assert await list_keys(store, states=("done",), key="8e03978e") == [keyed]
    await cut_off(store)
    assert [each.state for each in await list_keys(store)] == ["unknown"]


async def test_an_unknown_key_can_be_freed_and_then_runs() -> None:
    store, host = MemoryStore(), Host()
    app = Idempotency(storage=store).asgi(host)
    await call(app)
    name = await cut_off(store)
    assert json.loads((await call(app)).answer)["error"]["code"] == "idempotency_unknown"
    assert await resolve(store, name, "run") is None
    assert (await call(app)).answer == b"run 2"


async def test_a_key_that_is_freed_keeps_the_steps_that_were_recorded() -> None:
    store, steps = MemoryStore(), []

    async def work(scope: Any, receive: Any, send: Any) -> None:
        steps.append(dict(flexmw.execution().steps))

    app = Idempotency(storage=store).asgi(Host(work=work))
    await call(app)
    freed = await resolve(store, await cut_off(store, steps={"charge": 7}), "run")
    assert freed is not None
    assert freed.steps == ("charge",)
    await call(app)
    assert steps == [{}, {"charge": 7}]


async def test_an_unknown_key_can_be_given_its_response() -> None:
    store, host = MemoryStore(), Host()
    app = Idempotency(storage=store).asgi(host)
    await call(app)
    settled = await resolve(store, await cut_off(store), Given(status=201, body={"order": "ä"}))
    assert settled is not None
    assert (settled.state, settled.status) == ("done", 201)
    retry = await call(app)
    assert (retry.status, json.loads(retry.answer), retry.replayed, host.runs) == (201, {"order": "ä"}, True, 1)


async def test_what_cannot_be_settled_is_named() -> None:
    store = MemoryStore()
    app = Idempotency(storage=store).asgi(Host())
    await call(app)
    (known,) = await list_keys(store, states=("done",))
    with pytest.raises(ConfigError, match="this one is done"):
        await resolve(store, known.id, "run")
    assert await resolve(store, known.id, "run", force=True) is None
    with pytest.raises(ConfigError, match="the id of a key in this store"):
        await resolve(store, known.id, "run")
    with pytest.raises(ConfigError, match="'run' or a Given response"):
        await resolve(store, known.id, "forget")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="one of running, done, unknown, open"):
        await list_keys(store, states=("gone",))  # type: ignore[arg-type]


async def test_a_key_that_changes_meanwhile_is_not_resolved() -> None:
    class Busy(MemoryStore):
        async def swap(self, *arguments: Any, **options: Any) -> Any:
            return await self.load(arguments[0])

        async def drop(self, key: str, token: str) -> bool:
            return False

    store = Busy()
    record = Record(phase="unknown", key="k", fingerprint="f", at=1.0)
    await MemoryStore.swap(store, "flexmw:idempotency:x", "", "t", record.encode(), lease=0.0, ttl=60.0)
    for outcome in ("run", Given(body=None)):
        with pytest.raises(ConfigError, match="nobody changes meanwhile"):
            await resolve(store, "flexmw:idempotency:x", outcome)  # type: ignore[arg-type]


async def test_a_storage_url_serves_as_well_as_a_store(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/keys.db"
    await call(Idempotency(storage=url).asgi(Host()))
    (known,) = await list_keys(url, states=("done",))
    store = open_store(url)
    await cut_off(store)
    await store.aclose()
    assert await resolve(url, known.id, "run") is None
    assert await list_keys(url, states=("done", "unknown")) == []


@pytest.mark.parametrize("status", [0, 199, 600, 999])
def test_a_response_has_a_status_that_a_server_can_send(status: int) -> None:
    with pytest.raises(ConfigError, match=rf"Given\(status=\.\.\.\) = {status}: expected the status of a response"):
        Given(status=status, body={})
