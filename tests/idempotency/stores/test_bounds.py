"""The bounds of the stores: number of keys and bytes, on a sqlite file as in memory.

The promise in SECURITY.md: "No unbounded memory, time or file for any input".
"""

from __future__ import annotations

import logging
import re
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import anyio
import hypothesis.strategies as st
import pytest
import redis
from hypothesis import given, settings

import flexmw
from flexmw.idempotency.stores import Full, Store
from flexmw.idempotency.stores.memory import MemoryStore
from flexmw.idempotency.stores.open import open_store
from flexmw.idempotency.stores.sqlite import SQLiteStore
from flexmw.idempotency.stores.sqlite_size import Bounds
from flexmw.kit.asgi import ASGIApp
from flexmw.testing import FakeClock
from flexmw.testing.stores import check_store
from tests.idempotency.calls import KEYED, Caller, Host
from tests.waiting import LONGEST_WAIT

TTL = 100.0
LEASE = 10.0


async def call(app: ASGIApp, headers: dict[str, str], **options: Any) -> Caller:
    return await Caller(app, headers=headers, **options)()


def count_rows(path: Path, table: str) -> int:
    with sqlite3.connect(path) as connection:
        count: int = connection.execute(f"select count(*) from {table}").fetchone()[0]
    connection.close()
    return count


def size_of(path: Path) -> tuple[tuple[int, int], tuple[int, int]]:
    """Keys and bytes of a file: as the file has them written down, and as its rows have them."""
    with sqlite3.connect(path) as connection:
        (written,) = connection.execute("select keys, bytes from flexmw_size").fetchall()
        keys, entries = connection.execute("select count(*), total(length(entry)) from flexmw_keys").fetchone()
        logs = connection.execute("select total(length(data)) from flexmw_log_parts").fetchone()[0]
        heads = connection.execute("select total(length(head)) from flexmw_logs").fetchone()[0]
    connection.close()
    return written, (keys, int(entries + logs + heads))


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_bounded_store_keeps_the_promises_about_its_bound(kind: str) -> None:
    def bounded(keys: int) -> Store:
        url = "memory://" if kind == "memory" else f"sqlite:///{tempfile.mkdtemp(dir=folder)}/keys.db"
        return open_store(url, capacity=keys)

    with tempfile.TemporaryDirectory() as folder:
        checks = check_store(lambda: MemoryStore(), bounded=bounded)
    assert checks[-2:] == ("forgets_the_oldest", "refuses_when_all_run")


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["claim", "claim", "finish", "drop", "extend", "append", "wait"]),
        st.integers(0, 9),
        st.integers(0, 40),
        st.integers(0, 1),
    ),
    max_size=40,
)


@given(OPERATIONS)
@settings(max_examples=15, deadline=None)
def test_two_connections_keep_a_sqlite_file_in_its_bounds_and_forget_no_running_request(
    operations: list[tuple[str, int, int, int]],
) -> None:
    bounds, clock = Bounds(4, 100), FakeClock()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "keys.db"
        stores = [SQLiteStore(path, bounds=bounds, clock=clock) for _ in range(2)]
        running: dict[str, float] = {}
        for step, (operation, number, size, which) in enumerate(operations):
            store, key, now = stores[which], f"k{number}", clock.monotonic()
            running = {name: until for name, until in running.items() if until > now}
            before = {name: (held.token, held.entry) for name, held in store.scan()}
            held = before.get(key, ("", b""))[0]
            try:
                if operation == "wait":
                    clock.advance(float(size))
                elif operation == "claim" and not held:
                    store.swap(key, "", f"t{step}", b"x" * size, lease=LEASE, ttl=TTL)
                    running[key] = now + LEASE
                elif operation == "finish" and held:
                    store.swap(key, held, f"t{step}", b"y" * size, lease=0.0, ttl=TTL)
                    running.pop(key, None)
                elif operation == "drop" and held and store.drop(key, held):
                    running.pop(key, None)
                elif held and (
                    (operation == "extend" and store.extend(key, held, lease=LEASE, ttl=TTL))
                    or (
                        operation == "append"
                        and store.append(key, held, f"g{step}", 0, b"z" * size, head=b"head", lease=LEASE, ttl=TTL)
                    )
                ):
                    running[key] = now + LEASE
            except Full:
                others = {*before} - {key}
                assert others
                assert others <= {*running}, "a claim is refused only where all other keys run"
                assert {name: (held.token, held.entry) for name, held in store.scan()} == before
            now = clock.monotonic()
            running = {name: until for name, until in running.items() if until > now}
            assert {*running} <= {name for name, _ in stores[1 - which].scan()}
            written, counted = size_of(path)
            assert written == counted
            assert written[0] <= bounds.keys
            assert written[1] <= bounds.size_bytes or written[0] == 1
        for store in stores:
            store.close()


def test_a_full_sqlite_file_deletes_expired_keys_first_and_then_the_oldest(tmp_path: Path) -> None:
    clock = FakeClock()
    store = SQLiteStore(tmp_path / "keys.db", bounds=Bounds(3, 10_000), clock=clock)
    store.swap("old", "", "t", b"", lease=0.0, ttl=TTL)
    store.swap("expired", "", "t", b"", lease=0.0, ttl=1.0)
    clock.advance(2.0)
    for key in ("a", "b"):
        store.swap(key, "", "t", b"", lease=0.0, ttl=TTL)
        clock.advance(1.0)
    assert {key for key, _ in store.scan()} == {"old", "a", "b"}
    store.swap("c", "", "t", b"", lease=0.0, ttl=TTL)
    assert {key for key, _ in store.scan()} == {"a", "b", "c"}
    store.close()


_RACER = """
import sys
from flexmw.idempotency.stores.open import open_store
store = open_store(sys.argv[1], timeout=20.0, capacity=10).blocking
sys.stdin.readline()
for number in range(60):
    store.swap(f"{sys.argv[2]}{number}", "", "t", b"entry", lease=0.0, ttl=60.0)
"""


def test_two_processes_share_the_bound_of_a_sqlite_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    command = [sys.executable, "-c", _RACER, f"sqlite:///{path}"]
    children = [subprocess.Popen([*command, name], stdin=subprocess.PIPE, text=True) for name in "ab"]
    for child in children:
        child.communicate("go\n", timeout=LONGEST_WAIT)
        assert child.returncode == 0
    assert size_of(path) == ((10, 50), (10, 50))


def test_a_claim_takes_as_many_statements_in_a_large_sqlite_file_as_in_a_small_one(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "keys.db", bounds=Bounds(500, 10**6), clock=FakeClock())
    statements: list[str] = []
    numbers: dict[int, int] = {}
    for number in range(400):
        if number in (5, 399):
            connection = store.writer.connection
            assert connection is not None
            statements.clear()
            connection.set_trace_callback(statements.append)
            store.swap(f"k{number}", "", "t", b"", lease=60.0, ttl=60.0)
            connection.set_trace_callback(None)
            numbers[number] = len(statements)
            assert not [statement for statement in statements if re.search(r"\b(count|sum|total)\(", statement)]
        else:
            store.swap(f"k{number}", "", "t", b"", lease=60.0, ttl=60.0)
    assert numbers[5] == numbers[399]
    store.close()


def test_an_older_sqlite_file_is_counted_once_and_held_to_the_bounds(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    store = SQLiteStore(path)
    for number in range(20):
        store.swap(f"k{number:02}", "", "t", b"12345", lease=0.0, ttl=60.0 + number)
    store.append("k19", "t", "g", 0, b"data", head=b"head", lease=60.0, ttl=60.0)
    store.close()
    with sqlite3.connect(path) as connection:
        for (name,) in connection.execute("select name from sqlite_master where name like '%_size'").fetchall():
            connection.execute(f"drop {'table' if name == 'flexmw_size' else 'trigger'} if exists {name}")
    connection.close()
    stores = [SQLiteStore(path, bounds=Bounds(5, 10**6)) for _ in range(2)]
    assert [len(list(one.scan())) for one in stores] == [20, 20]
    assert size_of(path) == ((20, 108), (20, 108))
    stores[0].swap("new", "", "t", b"", lease=0.0, ttl=90.0)
    assert size_of(path)[0][0] == 5
    assert {"new", "k19"} <= {key for key, _ in stores[1].scan()}
    for one in stores:
        one.close()


def test_old_rows_leave_a_sqlite_file(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys.db", FakeClock()
    store = SQLiteStore(path, clock=clock)
    for number in range(60):
        store.swap(f"k{number}", "", "t", b"x" * 50_000, lease=0.0, ttl=TTL)
    store.close()
    largest = path.stat().st_size
    clock.advance(TTL + 1.0)
    for number in range(60):
        store.swap(f"new{number}", "", "t", b"", lease=0.0, ttl=TTL)
    store.close()
    assert largest > 3_000_000
    assert path.stat().st_size < largest // 5


def test_a_sqlite_file_that_forgets_responses_before_their_time_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = SQLiteStore(tmp_path / "keys.db", bounds=Bounds(2, 10**6))
    for number in range(6):
        store.swap(f"k{number}", "", "t", b"", lease=0.0, ttl=TTL)
    store.close()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "keys.db is full (2 keys" in record.getMessage()


@pytest.mark.anyio
async def test_a_full_sqlite_file_refuses_new_keys_and_stores_the_responses_of_what_runs(tmp_path: Path) -> None:
    host = Host().hold()
    app = flexmw.Idempotency(storage=f"sqlite:///{tmp_path}/keys.db", capacity=1).asgi(host)
    statuses: list[int] = []

    async def run() -> None:
        statuses.append((await call(app, KEYED)).status)

    with anyio.fail_after(LONGEST_WAIT):
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await host.started.wait()
            refused = [(await call(app, {"idempotency-key": f"new{number}"})).status for number in range(5)]
            host.proceed.set()
        assert (refused, host.runs, statuses) == ([503] * 5, 1, [200])
        assert (await call(app, KEYED)).replayed


@pytest.mark.anyio
async def test_refused_credentials_leave_no_row_in_a_sqlite_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    for status in (401, 403):
        app = flexmw.Idempotency(storage=f"sqlite:///{path}", sdk_retries=True).asgi(Host(status=status))
        for token in [None] if status == 403 else [None, "sk-bad"]:
            for headers in (KEYED, {"idempotency-key": "other"}, {"x-stainless-retry-count": "0"}):
                assert (await call(app, headers, token=token)).status == status
    tables = ("flexmw_keys", "flexmw_logs", "flexmw_log_parts")
    assert [count_rows(path, table) for table in tables] == [0, 0, 0]
    assert size_of(path) == ((0, 0), (0, 0))


@pytest.mark.parametrize(
    ("maxmemory", "policy", "is_said"),
    [("500mb", "volatile-lru", True), ("500mb", "noeviction", False), ("0", "volatile-lru", False)],
)
def test_a_redis_that_deletes_keys_when_it_is_full_is_a_warning_at_start(
    redis_url: str, caplog: pytest.LogCaptureFixture, maxmemory: str, policy: str, *, is_said: bool
) -> None:
    """Some providers set such a policy by default."""
    with redis.Redis.from_url(redis_url) as server:
        server.config_set("maxmemory", maxmemory)
        server.config_set("maxmemory-policy", policy)
        try:
            flexmw.Idempotency(storage=redis_url).asgi(Host())
        finally:
            server.config_set("maxmemory", 0)
            server.config_set("maxmemory-policy", "noeviction")
    messages = [record.getMessage() for record in caplog.records if "maxmemory-policy" in record.getMessage()]
    assert [f"has the maxmemory-policy {policy}" in message for message in messages] == [True] * is_said


def test_a_bound_that_redis_does_not_take_is_a_warning_that_names_its_own(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    flexmw.Idempotency(storage=redis_url).asgi(Host())
    assert not [record for record in caplog.records if "capacity" in record.getMessage()]
    flexmw.Idempotency(storage=redis_url, capacity=10_000, capacity_bytes=10_000).asgi(Host())
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    message = record.getMessage()
    assert message.startswith("Idempotency(capacity=..., capacity_bytes=...) has no effect")
    assert "maxmemory" in message
    assert "volatile-ttl" in message
