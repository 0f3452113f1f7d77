"""The attempts of an SDK's call, by the clock of the store and not by those of the workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import flexmw
from flexmw.idempotency.stores.memory import MemoryStore
from flexmw.idempotency.stores.open import open_store
from flexmw.idempotency.stores.sqlite_store import SQLiteStore
from flexmw.idempotency.stores.threads import Threaded
from flexmw.kit.clock import SystemClock
from tests.idempotency.calls import Caller, Host

pytestmark = pytest.mark.anyio

FIRST, RETRY = {"x-stainless-retry-count": "0"}, {"x-stainless-retry-count": "1"}


class Wrong(SystemClock):
    """A machine whose wall clock is wrong by so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def now(self) -> float:
        return super().now() + self._seconds


@pytest.fixture(params=["memory", "redis", "sqlite", "threads"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A store that no probe has asked for its time before."""
    if request.param == "memory":
        return MemoryStore()
    if request.param == "redis":
        return open_store(request.getfixturevalue("redis_url"))
    if request.param == "threads":
        return Threaded(SQLiteStore(tmp_path / "keys.db"))
    return open_store(f"sqlite:///{tmp_path}/keys.db")


@pytest.mark.parametrize("wrong", [7200.0, -7200.0])
async def test_a_retry_that_reaches_a_worker_with_a_wrong_clock_is_not_a_new_call(store: Any, wrong: float) -> None:
    host = Host()

    def worker(seconds: float) -> Any:
        return flexmw.Idempotency(storage=store, sdk_retries=True, clock=Wrong(seconds)).asgi(host)

    assert (await Caller(worker(0.0), headers=FIRST)()).answer == b"run 1"
    retry = await Caller(worker(wrong), headers=RETRY)()
    assert (retry.answer, retry.replayed, host.runs) == (b"run 1", True, 1)
    assert (await Caller(worker(wrong), headers=FIRST)()).answer == b"run 2"
    await store.aclose()
