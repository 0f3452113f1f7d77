"""Group commit of a sqlite store: many operations in one transaction, each reported when its commit is durable."""

from __future__ import annotations

import gc
import sqlite3
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

import flexmw
from flexmw.idempotency.stores import Full, ManyLeases, Swap, SwapPairs
from flexmw.idempotency.stores import sqlite_operations as operations
from flexmw.idempotency.stores.batch_thread import BatchThread
from flexmw.idempotency.stores.batch_waiters import Operation, Outcome
from flexmw.idempotency.stores.open import open_store
from flexmw.idempotency.stores.sqlite_async import AsyncSQLiteStore
from flexmw.idempotency.stores.sqlite_size import Bounds
from flexmw.idempotency.stores.sqlite_store import SQLiteStore
from flexmw.kit import time_limit
from flexmw.testing import FakeClock
from tests.idempotency.calls import Caller, Host
from tests.waiting import LONGEST_WAIT

LASTING = {"lease": 60.0, "ttl": 100.0}


def claim(key: str, *, size_bytes: int = 0, expected: str = "") -> Operation[Any]:
    return operations.swap(key, expected, f"token of {key}", b"x" * size_bytes, **LASTING)


def commits_of(store: SQLiteStore) -> list[str]:
    """The commits of transactions that write, from now on."""
    store.drop("", "")  # opens the connection
    commits: list[str] = []
    connection = store.writer.connection
    assert connection is not None
    connection.set_trace_callback(lambda statement: commits.append(statement) if statement == "COMMIT" else None)
    return commits


def shown(outcomes: list[Outcome]) -> list[str]:
    return [type(error).__name__ if error is not None else value.token for value, error in outcomes]


@pytest.fixture
def store(tmp_path: Path) -> Any:
    opened = SQLiteStore(tmp_path / "keys.db")
    yield opened
    opened.close()


async def make_all(calls: list[Callable[[], Any]]) -> None:
    async with anyio.create_task_group() as group:
        for call in calls:
            group.start_soon(call)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_requests_at_once_share_their_commits(tmp_path: Path) -> None:
    app = flexmw.Idempotency(storage=f"sqlite:///{tmp_path}/keys.db").asgi(Host())
    opened = SQLiteStore(tmp_path / "other.db")
    async_store = AsyncSQLiteStore(opened)
    commits = commits_of(opened)
    await make_all([partial(async_store.swap, f"k{number}", "", "t", b"", **LASTING) for number in range(64)])
    assert len(commits) == 1
    for number in range(5):
        await async_store.swap(f"k{number}", "t", "u", b"", **LASTING)
    assert len(commits) == 6
    await async_store.aclose()

    with anyio.fail_after(LONGEST_WAIT):
        callers = [Caller(app, headers={"idempotency-key": f"k{number}"}) for number in range(64)]
        await make_all(list(callers))
    assert {caller.status for caller in callers} == {200}


@pytest.mark.anyio
async def test_what_waits_behind_a_locked_file_is_one_transaction(tmp_path: Path) -> None:
    opened = SQLiteStore(tmp_path / "keys.db", timeout=LONGEST_WAIT)
    commits = commits_of(opened)
    store = AsyncSQLiteStore(opened)
    other = sqlite3.connect(tmp_path / "keys.db", isolation_level=None)
    other.execute("begin immediate")
    async with anyio.create_task_group() as group:
        for number in range(100):
            group.start_soon(partial(store.swap, f"k{number}", "", "t", b"", **LASTING))
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        assert await store.load("k0") is None  # a read does not wait for the lock
        other.execute("rollback")
        other.close()
    assert len(commits) <= 2
    assert len([key async for key, _ in store.scan()]) == 100
    await store.aclose()


@pytest.mark.anyio
async def test_an_operation_whose_task_has_left_is_not_begun(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/keys.db", timeout=LONGEST_WAIT)
    assert await store.load("k") is None
    other = sqlite3.connect(tmp_path / "keys.db", isolation_level=None)
    other.execute("begin immediate")
    with anyio.move_on_after(0.05) as scope:
        await store.swap("left", "", "t", b"", **LASTING)
    assert scope.cancelled_caught
    with time_limit.within(0.05), pytest.raises((TimeoutError, sqlite3.OperationalError)):
        await store.swap("late", "", "t", b"", **LASTING)
    other.execute("rollback")
    other.close()
    held = await store.swap("next", "", "t", b"", **LASTING)
    assert held is not None
    assert [key async for key, _ in store.scan()] == ["next"]
    await store.aclose()


@pytest.mark.anyio
async def test_two_writes_in_one_step_are_both_carried_out_or_none(tmp_path: Path) -> None:
    opened = SQLiteStore(tmp_path / "keys.db", bounds=Bounds(3, 1000))
    store = AsyncSQLiteStore(opened)
    assert isinstance(store, SwapPairs)
    commits = commits_of(opened)

    async def pair(expected: str, key: str, *, token: str = "t") -> list[str | None]:
        first, second = Swap("{a}list", expected, token, b"", 0.0, 100.0), Swap(key, "", "mine", b"", 60.0, 100.0)
        return [None if held is None else held.token for held in await store.swap_pair(first, second)]

    assert await pair("", "{a}1") == ["t", "mine"]
    assert await pair("", "{a}1") == ["t", "mine"], "to repeat a lost call is harmless"
    assert len(commits) == 2
    assert await pair("other", "{a}2", token="u") == ["t", None]
    await store.swap("{a}2", "", "theirs", b"", **LASTING)
    assert await pair("t", "{a}2", token="u") == ["u", "theirs"]
    await store.extend("{a}list", "u", **LASTING)
    with pytest.raises(Full):
        await pair("u", "{a}3", token="v")
    held = await store.load("{a}list")
    assert held is not None
    assert held.token == "u"
    await store.aclose()


@pytest.mark.anyio
async def test_an_operation_ends_at_its_time_while_the_file_is_locked(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/keys.db", timeout=LONGEST_WAIT)
    await store.swap("k", "", "t", b"", **LASTING)
    other = sqlite3.connect(tmp_path / "keys.db", isolation_level=None)
    other.execute("begin immediate")
    ended: list[float] = []

    async def late(seconds: float) -> None:
        with time_limit.within(seconds), pytest.raises((TimeoutError, sqlite3.OperationalError)):
            await store.drop("k", "t")
        ended.append(seconds)

    await make_all([partial(late, seconds) for seconds in (0.2, 0.1, 0.0)])
    assert sorted(ended) == [0.0, 0.1, 0.2]
    other.execute("rollback")
    other.close()
    await store.swap("next", "", "t", b"", **LASTING)
    assert await store.load("k") is not None
    await store.aclose()


@pytest.mark.anyio
async def test_the_leases_of_many_keys_are_renewed_in_one_transaction(tmp_path: Path) -> None:
    clock = FakeClock()
    opened = SQLiteStore(tmp_path / "keys.db", clock=clock)
    store = AsyncSQLiteStore(opened)
    assert isinstance(store, ManyLeases)
    for key in ("a", "b"):
        await store.swap(key, "", "t", b"", lease=10.0, ttl=100.0)
    commits = commits_of(opened)
    clock.advance(9.0)
    leases = [("a", "t", 10.0, 100.0), ("b", "other", 10.0, 100.0), ("gone", "t", 10.0, 100.0)]
    assert await store.extend_many(leases) == [True, False, False]
    assert len(commits) == 1
    held = [await store.load(key) for key in ("a", "b")]
    assert [each.lease for each in held if each] == [10.0, 1.0]
    await store.aclose()


def test_of_a_group_the_operations_that_are_refused_are_refused_alone(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "keys.db", bounds=Bounds(2, 100))
    commits = commits_of(store)
    outcomes = store.write_all(
        [claim("a"), claim("large", size_bytes=200), claim("a", expected="other"), claim("b"), claim("c")]
    )
    assert shown(outcomes) == ["token of a", "Full", "token of a", "token of b", "Full"]
    assert len(commits) == 1
    assert {key for key, _ in store.scan()} == {"a", "b"}
    store.close()


def test_a_group_is_decided_in_its_order(store: SQLiteStore) -> None:
    outcomes = store.write_all(
        [
            claim("k"),
            operations.swap("k", "", "rival", b"", **LASTING),
            operations.append("k", "token of k", "g", 0, b"data", head=b"head", last=False, **LASTING),
            operations.swap("k", "token of k", "done", b"response", lease=0.0, ttl=100.0),
            operations.append("k", "token of k", "g", 4, b"late", head=b"", last=False, **LASTING),
            operations.drop("k", "token of k"),
        ]
    )
    values = [value for value, error in outcomes if error is None]
    assert [values[0].token, values[1].token, values[2].size] == ["token of k", "token of k", 4]
    assert [values[3].token, values[4:]] == ["done", [None, False]]
    held = store.load("k")
    assert held is not None
    assert held[:2] == ("done", b"response")
    assert store.read("k", "g", 0, 9) is None


def test_an_operation_that_breaks_leaves_the_others_of_its_group_alone(store: SQLiteStore) -> None:
    commits = commits_of(store)

    def broken(writing: Any) -> None:
        writing.swap("half", "", "t", b"", 60.0, 100.0)
        raise ZeroDivisionError

    outcomes = store.write_all([claim("a"), Operation(broken), claim("b")])
    assert shown(outcomes) == ["token of a", "ZeroDivisionError", "token of b"]
    assert {key for key, _ in store.scan()} == {"a", "b"}
    assert len(commits) == 2


BAD_VALUES: list[Callable[[str], Operation[Any]]] = [
    lambda key: claim(f"{key}\ud800"),
    lambda key: operations.swap(key, "", "\udfff", b"", **LASTING),
    lambda key: operations.swap(key, "", "t", b"", lease=float("nan"), ttl=1.0),
    lambda key: operations.swap_pair(Swap(key, "", "t", b"", **LASTING), Swap("\ud800", "", "t", b"", **LASTING)),
    lambda key: operations.extend_many([(key, "t", 1.0, 1.0), ("\ud800", "t", 1.0, 1.0)]),
    lambda key: operations.append(f"{key}\ud800", "t", "g", 0, b"", head=b"", last=False, **LASTING),
    lambda key: operations.drop(f"{key}\ud800", "t"),
    lambda key: operations.note_reader(f"{key}\ud800"),
]


@given(st.lists(st.none() | st.sampled_from(BAD_VALUES), min_size=1, max_size=64))
@settings(max_examples=25, deadline=None)
def test_a_value_that_sqlite_cannot_hold_fails_its_operation_alone_in_a_few_transactions(
    made: list[Callable[[str], Operation[Any]] | None],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = SQLiteStore(Path(folder) / "keys.db")
        commits = commits_of(store)
        outcomes = store.write_all(
            [claim(f"k{number}") if bad is None else bad(f"k{number}") for number, bad in enumerate(made)]
        )
        good = [f"k{number}" for number, bad in enumerate(made) if bad is None]
        assert [outcome.error is None for outcome in outcomes] == [bad is None for bad in made]
        assert {key for key, _ in store.scan()} == {*good}
        bad_count = len(made) - len(good)
        assert len(commits) <= min(len(good), 1 + bad_count * len(made).bit_length())
        store.close()


@pytest.mark.parametrize("prefix", ["a", "é", "a\0b", "%", "😀"])
def test_keys_are_found_by_any_beginning(store: SQLiteStore, prefix: str) -> None:
    store.write_all([claim(f"{prefix}:1"), claim("other")])
    assert [key for key, _ in store.scan(f"{prefix}:")] == [f"{prefix}:1"]


def test_on_a_disk_without_space_the_small_operations_of_a_group_are_written(store: SQLiteStore) -> None:
    assert shown(store.write_all([claim("a")])) == ["token of a"]
    connection = store.writer.connection
    assert connection is not None
    (pages,) = connection.execute("pragma page_count").fetchone()
    connection.execute(f"pragma max_page_count = {pages + 2}")
    outcomes = store.write_all([claim("b"), claim("large", size_bytes=100_000), claim("c")])
    assert shown(outcomes) == ["token of b", "OperationalError", "token of c"]
    assert "full" in str(outcomes[1].error)
    assert {key for key, _ in store.scan()} == {"a", "b", "c"}


def test_a_file_that_cannot_be_written_fails_each_operation_of_a_group_with_its_own_error(store: SQLiteStore) -> None:
    store.write_all([claim("a")])
    connection = store.writer.connection
    assert connection is not None
    connection.execute("pragma query_only = on")
    outcomes = store.write_all([claim("b"), claim("c")])
    errors = [outcome.error for outcome in outcomes]
    assert [str(error) for error in errors] == ["attempt to write a readonly database"] * 2
    assert errors[0] is not errors[1]
    connection.execute("pragma query_only = off")
    assert shown(store.write_all([claim("b")])) == ["token of b"]


KEYS = st.integers(0, 5)
WRITES = st.lists(
    st.one_of(
        st.tuples(st.just("claim"), KEYS, KEYS),
        st.tuples(st.just("write"), KEYS, KEYS),
        st.tuples(st.just("append"), KEYS, KEYS),
        st.tuples(st.just("pair"), KEYS, KEYS),
        st.tuples(st.sampled_from(["extend", "drop", "note"]), KEYS, KEYS),
    ),
    min_size=4,
    max_size=12,
)


class Writer:
    """Makes operations, which expect the tokens that the keys had when the operation was made."""

    def __init__(self) -> None:
        self.number = 0

    def operation(self, name: str, key: int, other: int) -> Operation[Any]:
        self.number += 1
        token, old, times = f"t{other}", f"t{key}", {"lease": float(key % 2), "ttl": 10.0 * (1 + other)}
        if name in ("claim", "write"):
            expected = "" if name == "claim" else old
            return operations.swap(f"k{key}", expected, token, b"x" * 9 * other, **times)
        if name == "append":
            data = b"%d" % self.number
            return operations.append(f"k{key}", token, "g", 0, data, head=b"head", last=False, **times)
        if name == "pair":
            first = Swap(f"k{key}", "" if other % 2 else old, token, b"first", **times)
            return operations.swap_pair(first, Swap(f"k{other}", "", "t0", b"second" * key, **times))
        if name == "extend":
            return operations.extend(f"k{key}", token, **times)
        return operations.drop(f"k{key}", token) if name == "drop" else operations.note_reader(f"k{key}")


@given(st.lists(WRITES, max_size=4), st.sampled_from([2, 4, 100]))
@settings(max_examples=15, deadline=None)
def test_a_group_does_what_its_operations_do_one_by_one(groups: list[list[tuple[str, int, int]]], keys: int) -> None:
    clock, writer, bounds = FakeClock(), Writer(), Bounds(keys, 40 * keys)
    with tempfile.TemporaryDirectory() as folder:
        together, alone = (SQLiteStore(Path(folder) / name, clock=clock, bounds=bounds) for name in ("one", "two"))
        for writes in groups:
            made = [writer.operation(*write) for write in writes]
            outcomes = [alone.write_all([operation])[0] for operation in made]
            shown = [(value, type(error)) for value, error in outcomes]
            assert [(value, type(error)) for value, error in together.write_all(made)] == shown
            assert dict(together.scan()) == dict(alone.scan())
            assert [together.read(f"k{key}", "g", 0, 99) for key in range(6)] == [
                alone.read(f"k{key}", "g", 0, 99) for key in range(6)
            ]
            clock.advance(5.0)
        for store in (together, alone):
            store.close()


def test_a_group_goes_on_in_a_file_of_an_earlier_version(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "keys.db")) as connection:
        connection.executescript(
            """
            create table flexmw_keys (
                key text primary key, token text not null, entry blob not null,
                leased_until real not null, lease real not null,
                fresh_until real not null, ttl real not null, expires real not null
            ) without rowid;
            insert into flexmw_keys values ('k1', 'old', x'61', 0, 0, 0, 100, 9e9);
            """
        )
    store = SQLiteStore(tmp_path / "keys.db", bounds=Bounds(64, 10**6))
    assert shown(store.write_all([claim(f"k{number}") for number in range(64)])).count("old") == 1
    outcomes = store.write_all([operations.swap("k1", "old", "new", b"", **LASTING), claim("more")])
    assert shown(outcomes) == ["new", "Full"]
    assert len(dict(store.scan())) == 64
    store.close()


class Failing(sqlite3.Connection):
    """A connection whose disk fails in the middle of a commit."""

    fails = True

    def commit(self) -> None:
        if self.fails:
            raise sqlite3.OperationalError("disk I/O error")
        super().commit()


def test_a_commit_that_fails_fails_all_of_its_group_and_says_that_it_is_unknown(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "keys.db", bounds=Bounds(3, 100))
    store.write_all([claim("a")])
    before, connection = store.writer.connection, Failing(tmp_path / "keys.db", isolation_level=None)
    connection.execute("select 1 from flexmw_keys")  # the last connection deletes the write-ahead log
    assert before is not None
    before.close()
    store.writer.connection = connection
    outcomes = store.write_all([claim("b"), claim("large", size_bytes=200), claim("c")])
    assert shown(outcomes) == ["OperationalError", "Full", "OperationalError"]
    assert "unknown: disk I/O error" in str(outcomes[0].error)
    connection.fails = False
    assert shown(store.write_all([claim("b"), claim("d")])) == ["token of b", "token of d"]
    assert {key for key, _ in store.scan()} == {"a", "b", "d"}
    store.close()


def test_expired_keys_leave_a_file_in_bounded_steps(tmp_path: Path) -> None:
    clock = FakeClock()
    store = SQLiteStore(tmp_path / "keys.db", clock=clock)
    store.write_all([operations.swap(f"old{number}", "", "t", b"", lease=0.0, ttl=1.0) for number in range(100)])
    clock.advance(2.0)
    store.write_all([claim(f"new{number}") for number in range(10)])
    connection = store.writer.connection
    assert connection is not None
    assert connection.execute("select count(*) from flexmw_keys").fetchone() == (100 - 18 + 10,)
    store.close()


def test_event_loops_of_both_libraries_share_a_store(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/keys.db", timeout=LONGEST_WAIT)
    won: list[str] = []

    async def claim_all(name: str) -> None:
        async def one(number: int) -> None:
            held = await store.swap(f"k{number}", "", name, b"", **LASTING)
            assert held is not None
            if held.token == name:
                won.append(f"k{number}")

        await make_all([partial(one, number) for number in range(40)])

    backends = {"one": "asyncio", "two": "asyncio", "three": "trio", "four": "trio"}
    threads = [
        threading.Thread(target=anyio.run, args=(claim_all, name), kwargs={"backend": backend})
        for name, backend in backends.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONGEST_WAIT)
    assert sorted(won) == sorted({f"k{number}" for number in range(40)})
    anyio.run(store.aclose)


@pytest.mark.anyio
async def test_a_store_that_closes_carries_out_what_waits(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/keys.db")
    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(partial(store.swap, f"k{number}", "", "t", b"", **LASTING))
        await anyio.lowlevel.checkpoint()
        await store.aclose()
    with sqlite3.connect(tmp_path / "keys.db") as connection:
        assert connection.execute("select count(*) from flexmw_keys").fetchone() == (20,)
    connection.close()
    await store.aclose()


@pytest.mark.anyio
async def test_a_process_without_threads_to_spare_refuses_and_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    thread = BatchThread("none", lambda group: [Outcome(None, None) for _ in group])
    with monkeypatch.context() as patch, anyio.fail_after(LONGEST_WAIT):
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await thread.run(Operation(lambda _: None))
    assert await thread.run(Operation(lambda _: None)) is None
    await thread.aclose()


def test_full_is_raised_by_the_blocking_store_too(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "keys.db", bounds=Bounds(1, 100))
    store.swap("a", "", "t", b"", **LASTING)
    with pytest.raises(Full, match="all 1 other keys belong to requests that still run"):
        store.swap("b", "", "t", b"", **LASTING)
    store.close()


def test_an_operation_leaves_nothing_to_the_garbage_collector(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/keys.db", timeout=LONGEST_WAIT)

    async def swap(key: str) -> None:
        await store.swap(key, "", "t", b"", **LASTING)

    async def left() -> list[object]:
        await make_all([partial(swap, f"k{number}") for number in range(8)])
        gc.collect()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            await make_all([partial(swap, f"k{number}") for number in range(8)])
            gc.collect()
            return [found for found in gc.garbage if type(found).__module__.startswith("flexmw.")]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            await store.aclose()

    assert anyio.run(left) == []
