"""A response that the store does not take, while it takes all else: the outcome is stored without it."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import redis

import flexmw
from flexmw.idempotency import claim_writes
from flexmw.idempotency.stores.memory import MemoryStore
from flexmw.idempotency.stores.open import open_store
from flexmw.kit.log_limit import LogLimit
from flexmw.testing import FakeClock
from tests.idempotency.calls import KEYED, Caller, Host
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio
MEGABYTE = 1024 * 1024
LARGE = b"x" * (MEGABYTE + 1)


@pytest.fixture(autouse=True)
def lines(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(claim_writes, "_lines", LogLimit(burst=1, per_second=0.0, monotonic=lambda: 0.0))
    caplog.set_level(logging.WARNING, "flexmw.idempotency")


@asynccontextmanager
async def bounded_redis(url: str) -> AsyncGenerator[Any]:
    """A server that takes no value above a megabyte, as managed ones do."""
    with redis.Redis.from_url(url) as server:
        bound = server.config_get("proto-max-bulk-len")["proto-max-bulk-len"]
        server.config_set("proto-max-bulk-len", MEGABYTE)
        try:
            yield open_store(url)
        finally:
            server.config_set("proto-max-bulk-len", bound)


@asynccontextmanager
async def bounded_sqlite(path: Path) -> AsyncGenerator[Any]:
    """A file that takes no value above a megabyte. SQLite's own bound is a gigabyte."""
    store: Any = open_store(f"sqlite:///{path}")
    await store.swap("k", "", "t", b"", lease=0.0, ttl=1.0)
    store.blocking.writer.connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MEGABYTE)
    yield store


@pytest.mark.parametrize("kind", ["redis", "sqlite"])
async def test_the_outcome_is_stored_without_a_response_that_is_too_large_for_the_store(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It would be unknown otherwise, and a store that is alive would count as lost for all other requests."""
    bounded = bounded_redis(request.getfixturevalue("redis_url")) if kind == "redis" else bounded_sqlite(tmp_path / "k")
    async with bounded as store:
        host = Host(parts=(LARGE,))
        app = flexmw.Idempotency(storage=store, max_body=4 * MEGABYTE).asgi(host)
        first = await Caller(app, headers=KEYED)()
        assert (first.status, first.answer) == (200, LARGE)
        with anyio.fail_after(LONGEST_WAIT):  # on a busy machine, the end of the connection may overtake the refusal
            while b"idempotency_in_progress" in (second := await Caller(app, headers=KEYED)()).answer:  # noqa: ASYNC110
                await anyio.sleep(0.02)
        assert (second.status, second.replayed) == (409, True)
        assert b"idempotency_answer_not_kept" in second.answer
        host.parts = (b"small",)
        other = await Caller(app, headers={"idempotency-key": "other"})()
        assert (other.status, host.runs) == (200, 2)
        assert (await Caller(app, headers={"idempotency-key": "other"})()).answer == b"small"
        await store.aclose()
    (line,) = [text for record in caplog.records if "does not take a response" in (text := record.getMessage())]
    assert f"a response of {len(LARGE)} bytes" in line
    assert "Set max_body to what the store takes" in line


async def test_a_full_store_is_asked_for_a_lease(caplog: pytest.LogCaptureFixture) -> None:
    """It may have room for the response later, so the response is not given up before."""
    store, body = MemoryStore(max_bytes=150_000), b"x" * 100_000
    assert await store.swap("other", "", "t", b"x" * 100_000, lease=LONGEST_WAIT, ttl=LONGEST_WAIT)
    host = Host(parts=(body,))
    app = flexmw.Idempotency(storage=store, lease=0.6, store_timeout=0.1).asgi(host)
    kept, left_out = KEYED, {"idempotency-key": "left-out"}
    assert (await Caller(app, headers=kept)()).answer == body
    assert (await Caller(app, headers=kept)()).status == 409  # in progress
    assert await store.drop("other", "t")
    with anyio.fail_after(LONGEST_WAIT):
        while (replay := await Caller(app, headers=kept)()).status == 409:  # noqa: ASYNC110 - until the next write
            await anyio.sleep(0.02)
    assert (replay.answer, replay.replayed, caplog.text.count("does not take a response")) == (body, True, 0)
    assert await store.swap("other", "", "t", b"x" * 140_000, lease=LONGEST_WAIT, ttl=LONGEST_WAIT)
    assert (await Caller(app, headers=left_out)()).answer == body
    with anyio.fail_after(LONGEST_WAIT):
        while b"idempotency_in_progress" in (refused := await Caller(app, headers=left_out)()).answer:  # noqa: ASYNC110
            await anyio.sleep(0.02)
    assert b"idempotency_answer_not_kept" in refused.answer
    assert (caplog.text.count("does not take a response"), host.runs) == (1, 2)


class Unlucky(MemoryStore):
    """A store whose connection is lost several times in the middle of a large write: a neighbour's was refused.

    :param takes: the write is carried out nevertheless.
    """

    def __init__(self, losses: int, *, takes: bool = False) -> None:
        super().__init__()
        self.losses, self.takes = losses, takes

    async def swap(self, key: str, expected: str, token: str, entry: bytes, *, lease: float, ttl: float) -> Any:
        if len(entry) > MEGABYTE and self.losses:
            self.losses -= 1
            if self.takes:
                await super().swap(key, expected, token, entry, lease=lease, ttl=ttl)
            raise ConnectionError("Connection closed by server.")
        return await super().swap(key, expected, token, entry, lease=lease, ttl=ttl)


@pytest.mark.parametrize(("losses", "takes", "is_kept"), [(5, False, True), (100, False, False), (100, True, True)])
async def test_a_large_response_whose_neighbour_was_refused_is_kept(losses: int, takes: bool, is_kept: bool) -> None:
    clock = FakeClock()
    host, store = Host(parts=(LARGE,)), Unlucky(losses, takes=takes)
    component = flexmw.Idempotency(storage=store, max_body=4 * MEGABYTE, clock=clock)
    app: Any = component.asgi(host)
    assert (await Caller(app, headers=KEYED)()).answer == LARGE
    with anyio.fail_after(LONGEST_WAIT):
        while app._plan.late_outcomes.are_late:
            await anyio.lowlevel.checkpoint()
    replay = await Caller(app, headers=KEYED)()
    assert (replay.status, replay.replayed, host.runs) == (200 if is_kept else 409, True, 1)
    assert (replay.answer == LARGE) is is_kept
