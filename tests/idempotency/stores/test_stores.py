"""The three stores against one conformance suite, and each against what it alone promises."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
import redis

from flexmw.errors import ConfigError
from flexmw.idempotency.stores import Held, Swap
from flexmw.idempotency.stores.memory import Full, MemoryStore
from flexmw.idempotency.stores.open import open_store
from flexmw.idempotency.stores.sqlite import SQLiteStore, path_of
from flexmw.idempotency.stores.threads import Threaded, _limiters
from flexmw.testing import FakeClock
from flexmw.testing.hostile.ports import HOST
from flexmw.testing.stores import check_store
from tests.idempotency.streams import EVENT, streaming, until
from tests.stores import cluster_of_one
from tests.waiting import LONGEST_WAIT


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis", "valkey"])
def test_every_store_keeps_the_promises_of_the_interface(
    kind: str, backend: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    urls = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/keys.db"}
    url = urls.get(kind) or request.getfixturevalue("redis_url").replace("redis://", f"{kind}://")
    checks = check_store(lambda: open_store(url), backend=backend)
    assert len(checks) == (20 if kind == "memory" else 22)


@pytest.mark.parametrize("change", ["removed", "replaced"])
def test_two_processes_agree_on_a_sqlite_file_that_was_removed_or_replaced(
    change: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.db"
    one, two = SQLiteStore(path), SQLiteStore(path)
    for store in (one, two):
        store.swap("before", "", "mine", b"", lease=60.0, ttl=60.0)
    for file in tmp_path.glob("keys.db*"):
        file.unlink()
    if change == "replaced":
        backup = SQLiteStore(tmp_path / "backup.db")
        backup.swap("restored", "", "mine", b"", lease=60.0, ttl=60.0)
        backup.close()
        (tmp_path / "backup.db").rename(path)
    tokens = [store.swap("new", "", name, b"", lease=60.0, ttl=60.0) for store, name in ((one, "one"), (two, "two"))]
    assert [held.token for held in tokens if held] == ["one", "one"]
    assert {key for key, _ in two.scan()} == ({"new", "restored"} if change == "replaced" else {"new"})
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert str(path) in caplog.text
    one.close()
    two.close()
    third = SQLiteStore(path)
    assert third.load("new") is not None
    third.close()


class _Forgetful(MemoryStore):
    async def extend(self, key: str, token: str, *, lease: float, ttl: float) -> bool:
        return True


class _RenewsOne(MemoryStore):
    async def extend_many(self, leases: Sequence[tuple[str, str, float, float]]) -> list[bool]:
        key, token, lease, ttl = leases[0]
        return [await self.extend(key, token, lease=lease, ttl=ttl)] * len(leases)


class _WritesBoth(MemoryStore):
    async def swap_pair(self, first: Swap, second: Swap) -> tuple[Held | None, Held | None]:
        held = [await self.swap(*write[:4], lease=write.lease, ttl=write.ttl) for write in (first, second)]
        return held[0], held[1]


class _LastWriteWins(MemoryStore):
    async def swap(self, key, expected, token, entry, *, lease, ttl):  # type: ignore[no-untyped-def]
        await super().drop(key, expected)
        held = await self.load(key)
        return await super().swap(key, held.token if held else "", token, entry, lease=lease, ttl=ttl)


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (_Forgetful, "renews_a_lease"),
        (_LastWriteWins, "refuses_a_wrong_expectation"),
        (_RenewsOne, "renews_many_leases"),
        (_WritesBoth, "swaps_a_pair"),
    ],
)
def test_the_suite_names_the_promise_that_a_store_breaks(broken: type[MemoryStore], promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        check_store(broken)


@pytest.mark.anyio
async def test_a_full_memory_store_forgets_the_oldest_response_and_never_a_running_request() -> None:
    store = MemoryStore(capacity=3, clock=FakeClock())
    await store.swap("running", "", "t", b"", lease=60.0, ttl=100.0)
    for key in ("a", "b", "c"):
        await store.swap(key, "", "t", b"", lease=0.0, ttl=100.0)
    assert [key async for key, _ in store.scan()] == ["running", "b", "c"]


@pytest.mark.anyio
async def test_a_memory_store_full_of_running_requests_takes_no_more() -> None:
    store = MemoryStore(capacity=2, clock=FakeClock())
    for key in ("a", "b"):
        await store.swap(key, "", "t", b"", lease=60.0, ttl=100.0)
    with pytest.raises(Full):
        await store.swap("c", "", "t", b"", lease=60.0, ttl=100.0)
    assert len(store) == 2


@pytest.mark.anyio
async def test_a_memory_store_without_room_for_a_response_keeps_the_claim() -> None:
    store = MemoryStore(max_bytes=100, clock=FakeClock())
    for key in ("a", "b"):
        await store.swap(key, "", "t", b"x" * 10, lease=60.0, ttl=100.0)
    with pytest.raises(Full):
        await store.swap("a", "t", "u", b"x" * 95, lease=0.0, ttl=100.0)
    held = await store.load("a")
    assert held is not None
    assert (held.token, held.entry) == ("t", b"x" * 10)
    await store.swap("a", "t", "u", b"x" * 90, lease=0.0, ttl=100.0)
    held = await store.load("a")
    assert held is not None
    assert held.token == "u"


@pytest.mark.anyio
async def test_a_response_above_all_bounds_is_held_while_it_is_alone() -> None:
    store = MemoryStore(capacity=1, max_bytes=100, clock=FakeClock())
    await store.swap("a", "", "t", b"x", lease=60.0, ttl=100.0)
    await store.swap("a", "t", "u", b"x" * 200, lease=0.0, ttl=100.0)
    await store.swap("b", "", "t", b"x", lease=60.0, ttl=100.0)
    assert [key async for key, _ in store.scan()] == ["b"]


def test_a_sqlite_connection_that_is_broken_is_replaced(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "keys.db")
    store.swap("k", "", "t", b"entry", lease=60.0, ttl=100.0)
    assert store.load("k")
    other = SQLiteStore(tmp_path / "keys.db")
    assert other.load("k")  # keeps the write-ahead log, which the last connection deletes
    for file in (store.reader, store.writer):
        assert file.connection is not None
        file.connection.close()
    with pytest.raises(sqlite3.Error):
        store.load("k")
    with pytest.raises(sqlite3.Error):
        store.drop("k", "other")
    assert store.load("k")
    assert not store.drop("k", "other")
    file = store.writer
    assert file.connection is not None
    file.connection.close()
    file.connection = Stuck(tmp_path / "keys.db", isolation_level=None, check_same_thread=False)
    with pytest.raises(sqlite3.OperationalError, match="unknown: disk I/O error"):
        store.drop("k", "t")
    assert store.drop("k", "t")
    store.close()
    other.close()


class Stuck(sqlite3.Connection):
    """A connection whose disk is gone."""

    def commit(self) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    def rollback(self) -> None:
        raise sqlite3.OperationalError("disk I/O error")


@pytest.mark.anyio
async def test_a_memory_store_is_bounded_in_bytes_and_drops_what_expired() -> None:
    clock = FakeClock()
    store = MemoryStore(max_bytes=100, clock=clock)
    for number in range(50):
        await store.swap(f"k{number}", "", "t", b"x" * 30, lease=0.0, ttl=100.0)
        assert len(store) <= 3
    clock.advance(101.0)
    await store.swap("new", "", "t", b"", lease=0.0, ttl=100.0)
    assert [key async for key, _ in store.scan()] == ["new"]
    assert len(store) == 1


def test_sqlite_urls_name_relative_and_absolute_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert path_of("sqlite:///keys.db") == tmp_path / "keys.db"
    assert path_of("sqlite:////var/keys@home.db") == Path("/var/keys@home.db")
    for wrong in ("sqlite://", "sqlite:///", "sqlite://keys.db", "sqlite:///folder/"):
        with pytest.raises(ConfigError, match="sqlite:///file"):
            path_of(wrong)


def test_a_sqlite_file_that_cannot_be_opened_is_found_at_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Idempotency\(storage=...\).*check the folder"):
        open_store(f"sqlite:///{tmp_path}/missing/keys.db", option="Idempotency(storage=...)")


def test_a_sqlite_file_that_cannot_be_written_is_found_at_start(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    store = SQLiteStore(path)
    store.swap("k", "", "t", b"", lease=1.0, ttl=60.0)
    store.close()
    content = bytearray(path.read_bytes())
    content[18] = (
        3  # written by a later version of sqlite, which this one may only read; root writes a file of mode 444
    )
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="readonly database"):
        open_store(f"sqlite:///{path}", option="Idempotency(storage=...)")


def test_a_redis_that_is_not_there_is_found_at_start() -> None:
    with pytest.raises(ConfigError, match="accepts connections"):
        open_store("redis://127.0.0.1:1", reach=True)


_WRITER = """
import sys, time
from pathlib import Path
from flexmw.idempotency.stores.sqlite import SQLiteStore
store = SQLiteStore(Path(sys.argv[1]))
number = 0
while True:
    store.swap(f"k{number}", "", "writer", b"x" * 100, lease=60.0, ttl=3600.0)
    print(number, flush=True)
    number += 1
"""


def test_what_sqlite_reported_as_written_is_there_after_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    child = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child:
        for _ in range(40):
            last = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        last = max([last, *(int(line) for line in child.stdout.read().split())])
    assert child.returncode == -signal.SIGKILL
    store = SQLiteStore(path)
    assert all(store.load(f"k{number}") is not None for number in range(last + 1))
    assert store.swap("k0", "writer", "next", b"", lease=1.0, ttl=60.0) is not None
    with sqlite3.connect(path) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    connection.close()
    store.close()


_RACER = """
import sys
from flexmw.idempotency.stores.open import open_store
store = open_store(sys.argv[1], timeout=20.0).blocking
sys.stdin.readline()
won = 0
for number in range(100):
    held = store.swap(f"race{number}", "", sys.argv[2], b"", lease=60.0, ttl=60.0)
    won += held is not None and held.token == sys.argv[2]
print(won)
"""


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_of_four_processes_that_claim_the_same_keys_one_wins_each(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/keys.db" if kind == "sqlite" else request.getfixturevalue("redis_url")
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _RACER, url, f"p{number}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for number in range(4)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    won = [int(child.communicate(timeout=LONGEST_WAIT)[0]) for child in children]
    assert sum(won) == 100


def test_a_leap_of_the_wall_clock_makes_sqlite_forget_nothing_too_early(tmp_path: Path) -> None:
    clock = FakeClock()
    store = SQLiteStore(tmp_path / "keys.db", clock=clock)
    store.swap("k", "", "t", b"", lease=60.0, ttl=3600.0)
    clock.step(1e6)
    held = store.load("k")
    assert held is not None
    assert held.lease == pytest.approx(60.0)
    store.swap("other", "", "t", b"", lease=60.0, ttl=3600.0)
    assert store.load("k") is not None
    clock.advance(1e3)
    assert store.load("k") is not None
    clock.step(-2e6)
    assert store.load("k") is not None
    clock.step(1e6)
    clock.advance(2_601.0)
    assert store.load("k") is None
    store.swap("another", "", "t", b"", lease=0.0, ttl=1.0)
    assert "k" not in [key for key, _ in store.scan()]
    store.close()


def test_after_a_reboot_sqlite_takes_every_lease_as_run_out(tmp_path: Path) -> None:
    before = SQLiteStore(tmp_path / "keys.db", clock=FakeClock(monotonic=90_000.0))
    before.swap("k", "", "t", b"", lease=60.0, ttl=3600.0)
    before.close()
    after = SQLiteStore(tmp_path / "keys.db", clock=FakeClock(monotonic=12.0))
    held = after.load("k")
    assert held is not None
    assert held.lease == 0.0
    after.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_sqlite_store_opens_its_own_connection_in_a_forked_child(tmp_path: Path) -> None:
    script = f"""
import os, sys
from pathlib import Path
from flexmw.idempotency.stores.sqlite import SQLiteStore
store = SQLiteStore(Path({str(tmp_path / "keys.db")!r}))
store.swap("parent", "", "t", b"", lease=1.0, ttl=60.0)
child = os.fork()
store.swap(f"pid{{bool(child)}}", "", "t", b"", lease=1.0, ttl=60.0)
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
print(len(list(store.scan())))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=LONGEST_WAIT, check=True
    )
    assert done.stdout == "3\n"


@pytest.mark.anyio
async def test_every_key_in_redis_has_an_expiry(redis_url: str) -> None:
    store = open_store(redis_url)
    await store.swap("{a}:1", "", "t", b"x", lease=60.0, ttl=3600.0)
    await store.swap("{a}:2", "", "t", b"x", lease=60.0, ttl=1.0)
    await store.extend("{a}:1", "t", lease=60.0, ttl=7200.0)
    await store.swap("{a}:2", "t", "u", b"y", lease=0.0, ttl=60.0)
    await store.aclose()
    with redis.Redis.from_url(redis_url) as client:
        expiries = {key.decode(): client.pttl(key) for key in client.scan_iter()}
    assert set(expiries) == {"{a}:1", "{a}:2"}
    assert 3_600_000 < expiries["{a}:1"] <= 7_200_000
    assert 0 < expiries["{a}:2"] <= 60_000


@pytest.mark.anyio
async def test_a_redis_that_forgot_the_script_is_given_it_again(redis_url: str) -> None:
    store = open_store(redis_url)
    await store.swap("k", "", "t", b"x", lease=60.0, ttl=60.0)
    with redis.Redis.from_url(redis_url) as client:
        client.script_flush()
    held = await store.load("k")
    await store.aclose()
    assert held is not None
    assert held.entry == b"x"


@pytest.mark.anyio
async def test_a_store_that_blocks_holds_up_no_event_loop(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/keys.db", timeout=5.0)
    await store.load("k")
    other = sqlite3.connect(tmp_path / "keys.db", isolation_level=None)
    other.execute("begin immediate")
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: store.swap("k", "", "t", b"", lease=1.0, ttl=60.0))
        for _ in range(50):
            await anyio.lowlevel.checkpoint()
        assert other.execute("select count(*) from flexmw_keys").fetchone() == (0,)
        other.execute("rollback")
        other.close()
    assert await store.load("k") is not None
    await store.aclose()


def test_a_redis_cluster_keeps_the_promises_too_and_continues_a_response(tmp_path: Path) -> None:
    """One test, because a cluster takes no write for two seconds after its start."""

    async def cut() -> None:
        async with streaming(lambda: url) as stream:
            stream.source.send(EVENT)
            caller = stream.at(3)
            async with anyio.create_task_group() as group:
                group.start_soon(caller)
                await until(lambda: caller.answer)
                stream.source.send(EVENT, EVENT)
                stream.source.end()
            stored = await stream.at(len(EVENT))()
        whole = EVENT * 3
        assert (stream.first.answer, caller.answer, stored.answer) == (whole, whole[3:], whole[len(EVENT) :])
        assert stream.source.runs == 1

    with cluster_of_one(tmp_path) as url:
        assert len(check_store(lambda: open_store(url))) == 22
        anyio.run(cut)
        # Behind NAT, the nodes announce addresses that lead nowhere, and a client knows how to reach them.
        port = int(url.rpartition(":")[2])
        with redis.Redis(port=port) as node:
            node.config_set("cluster-announce-ip", "203.0.113.7")
        with redis.RedisCluster(HOST, port, address_remap=lambda announced: (HOST, announced[1])) as client:
            store = open_store(client)
            for backend in ("asyncio", "trio"):
                held = anyio.run(partial(store.swap, backend, "", "t", b"", lease=1.0, ttl=1.0), backend=backend)
                assert held is not None


@pytest.mark.anyio
async def test_a_store_that_was_closed_leaves_nothing_behind_and_can_be_used_again(tmp_path: Path) -> None:
    for _ in range(3):
        store = open_store(f"sqlite:///{tmp_path}/keys.db")
        await store.swap("k", "", "t", b"entry", lease=60.0, ttl=100.0)
        assert await store.load("k") is not None
        await store.aclose()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("flexmw-sqlite")]
        assert not os.path.exists(tmp_path / "keys.db-wal"), "the last connection removes it"  # noqa: ASYNC240, PTH110
        assert await store.load("k") is not None
        await store.aclose()
        threaded = Threaded(SQLiteStore(tmp_path / "keys.db"))
        assert await threaded.load("k") is not None
        before = len(_limiters.get())
        await threaded.aclose()
        assert len(_limiters.get()) == before - 1


def test_sqlite_takes_no_parameters_as_part_of_a_file_s_name() -> None:
    with pytest.raises(ConfigError, match=r"absolute\), without parameters"):
        path_of("sqlite:///keys.db?timeout=3")


def test_a_sqlite_url_for_memory_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'sqlite:///:memory:': expected a file, or 'memory://'"):
        path_of("sqlite:///:memory:")


_OTHER_PROCESS = """
import pathlib, sys
from flexmw.idempotency.stores.sqlite_store import SQLiteStore
store = SQLiteStore(pathlib.Path(sys.argv[1]))
for key in sys.stdin:
    try:
        print(store.swap(key.strip(), "", "other", b"", lease=60.0, ttl=60.0).token, flush=True)
    except Exception as error:
        print(type(error).__name__, flush=True)
store.close()
"""


@pytest.mark.parametrize("end", ["-wal", "-shm"])
def test_a_removed_file_beside_a_sqlite_file_is_no_matter_of_the_other_store_of_a_process(
    end: str, tmp_path: Path
) -> None:
    """The connections of a process share the ``-shm``: an idle store must not keep a removed one in use."""
    path = tmp_path / "keys.db"
    stores = [SQLiteStore(path), SQLiteStore(path)]
    for number, store in enumerate(stores):
        assert store.load("k") is None
        assert store.swap(f"{number}", "", "first", b"", lease=60.0, ttl=60.0) is not None
    Path(f"{path}{end}").unlink()
    for token, store in zip(("one", "two"), stores, strict=True):
        held = store.swap("k", "", token, b"", lease=60.0, ttl=60.0)
        assert held is not None
        assert held.token == "one"
    for store in stores:
        store.close()


@pytest.mark.parametrize("end", ["-wal", "-shm"])
def test_two_processes_agree_after_a_file_beside_a_sqlite_file_was_removed(
    end: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the locks in ``-shm`` both processes write at once. Without ``-wal`` the other one fails for ever."""
    path = tmp_path / "keys.db"
    store = SQLiteStore(path)

    def claim(key: str) -> str | None:
        held = store.swap(key, "", "mine", b"", lease=60.0, ttl=60.0)
        return held and held.token

    assert claim("before") == "mine"
    assert store.load("before") is not None  # the connection that reads
    Path(f"{path}{end}").unlink()
    with subprocess.Popen(
        [sys.executable, "-c", _OTHER_PROCESS, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None

        def ask(key: str) -> str:
            print(key, file=other.stdin, flush=True)
            return other.stdout.readline().strip()

        try:
            assert ask("one") == ("other" if end == "-shm" else "OperationalError")
            assert claim("one") == ("other" if end == "-shm" else "mine")
            assert claim("two") == "mine"
            assert [ask(key) for key in ("before", "two", "three")] == ["mine", "mine", "other"]
            assert claim("three") == "other"
        finally:
            other.stdin.close()
            other.wait(LONGEST_WAIT)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"keys.db{end} was removed" in caplog.text
    store.close()
