"""Processes that commit in groups to one sqlite file: killed in a commit, forked at work, and beside each other."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from flexmw.idempotency.stores.sqlite_store import SQLiteStore
from tests.waiting import LONGEST_WAIT

_SUICIDE = """
import os, random, signal, sqlite3, sys, threading, time
from functools import partial
from pathlib import Path
import anyio
from flexmw.idempotency.stores.open import open_store

path, moment, after = sys.argv[1], sys.argv[2], int(sys.argv[3])
commits = 0

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Connection(sqlite3.Connection):
    def commit(self):
        global commits
        commits += threading.current_thread().name == "flexmw-sqlite-writer"
        if commits == after:
            if moment == "during":
                threading.Thread(target=lambda: (time.sleep(random.random() / 2000), die())).start()
            elif moment == "before":
                die()
        super().commit()
        if commits == after and moment == "after":
            die()

connect = sqlite3.connect
sqlite3.connect = lambda *args, **options: connect(*args, **options, factory=Connection)

async def main():
    store = open_store(f"sqlite:///{path}", timeout=20.0)
    async def client(name):
        for number in range(1000):
            key = f"{name}-{number}"
            await store.swap(key, "", "claimed", b"", lease=60.0, ttl=3600.0)
            os.write(1, f"{key} claimed\\n".encode())
            await store.swap(key, "claimed", "done", b"x" * 300, lease=0.0, ttl=3600.0)
            os.write(1, f"{key} done\\n".encode())
    async with anyio.create_task_group() as group:
        for name in range(16):
            group.start_soon(client, name)

anyio.run(main)
"""


@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_what_was_reported_survives_a_sigkill_in_a_group_commit(moment: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    done = subprocess.run(
        [sys.executable, "-c", _SUICIDE, str(path), moment, "7"], capture_output=True, timeout=LONGEST_WAIT
    )
    assert done.returncode == -9, done.stderr.decode()
    store = SQLiteStore(path)
    reported = dict(line.split() for line in done.stdout.decode().splitlines() if line.count(" ") == 1)
    assert reported
    for key, token in reported.items():
        held = store.load(key)
        assert held is not None
        assert held.token in {"claimed": ("claimed", "done"), "done": ("done",)}[token]
        assert len(held.entry) == (300 if held.token == "done" else 0)
    store.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
        written = connection.execute("select keys from flexmw_size").fetchone()
        assert written == connection.execute("select count(*) from flexmw_keys").fetchone()
    connection.close()


_FORKS = """
import os, sys, threading, warnings
from functools import partial
from pathlib import Path
import anyio
from flexmw.idempotency.stores.open import open_store

warnings.simplefilter("ignore")
store = open_store(f"sqlite:///{sys.argv[1]}", timeout=20.0)
forked, began = False, threading.Event()

async def hammer():
    number = 0
    while not forked:
        async with anyio.create_task_group() as group:
            for _ in range(8):
                number += 1
                group.start_soon(partial(store.swap, f"parent{number}", "", "t", b"", lease=60.0, ttl=60.0))
        began.set()
    await store.aclose()

async def one(name):
    await store.swap(name, "", "t", b"", lease=60.0, ttl=60.0)
    assert (await store.load(name)).token == "t"
    await store.aclose()

thread = threading.Thread(target=anyio.run, args=(hammer,))
thread.start()
began.wait()  # all is imported: a child would wait for the import of a thread that it does not have
codes = []
for number in range(6):
    child = os.fork()
    if child == 0:
        anyio.run(one, f"child{number}")
        os._exit(0)
    codes.append(os.waitpid(child, 0)[1])
forked = True
thread.join()
print(codes, len([key for key, _ in store.blocking.scan("child")]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_forks_while_its_store_is_at_work(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FORKS, str(tmp_path / "keys.db")],
        capture_output=True,
        text=True,
        timeout=LONGEST_WAIT,
        check=True,
    )
    assert done.stdout == "[0, 0, 0, 0, 0, 0] 6\n", done.stderr


_BUSY = """
import sys
from flexmw.idempotency.stores import sqlite_operations as operations
from flexmw.idempotency.stores.open import open_store
store = open_store(f"sqlite:///{sys.argv[1]}", timeout=20.0).blocking
number = 0
while True:
    group = [
        operations.swap(f"busy{number + index}", "", "t", b"x" * 300, lease=0.0, ttl=60.0) for index in range(64)
    ]
    assert not [outcome.error for outcome in store.write_all(group) if outcome.error]
    number += 64
    if number == 640:
        print("busy", flush=True)
"""


def test_a_process_gets_its_turn_beside_one_that_writes_all_the_time(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    with subprocess.Popen([sys.executable, "-c", _BUSY, str(path)], stdout=subprocess.PIPE, text=True) as busy:
        try:
            assert busy.stdout is not None
            assert busy.stdout.readline() == "busy\n"
            store = SQLiteStore(path, timeout=LONGEST_WAIT)
            store.drop("", "")
            connection = store.writer.connection
            assert connection is not None
            (before,) = connection.execute("select count(*) from flexmw_keys").fetchone()
            for number in range(20):
                store.swap(f"own{number}", "", "t", b"", lease=60.0, ttl=100.0)
            (after,) = connection.execute("select count(*) from flexmw_keys").fetchone()
            store.close()
        finally:
            busy.kill()
    assert (after - before - 20) / 64 < 20 * 20, "the other process has taken more than twenty turns for each of ours"
