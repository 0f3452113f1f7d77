"""A sqlite file on a disk that gets full: a write-ahead log that filled it would keep it full for ever."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from flexmw.idempotency.stores.sqlite_store import SQLiteStore
from tests.servers import skip_unless

MEGABYTE = 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Generator[Path]:
    """A disk of 6 MB in memory, which takes the right to mount one."""
    mount, folder = shutil.which("mount"), tmp_path / "disk"
    skip_unless(mount is not None and os.geteuid() == 0, "the right to mount a disk")
    folder.mkdir()
    mounted = subprocess.run([str(mount), "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)], check=False)
    skip_unless(mounted.returncode == 0, "the right to mount a disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def claims(store: SQLiteStore, name: str, size: int, *, most: int) -> int:
    """How many keys of so many bytes the store takes until the disk is full, ``most`` at most."""
    for number in range(most):
        try:
            store.swap(f"{name}{number}", "", f"t{number}", b"x" * size, lease=0.0, ttl=1000.0)
        except sqlite3.OperationalError:
            return number
    return most


@pytest.mark.parametrize("is_small_at_start", [True, False])
def test_space_that_becomes_free_is_used(small_disk: Path, is_small_at_start: bool) -> None:
    other, store = small_disk / "other", SQLiteStore(small_disk / "keys.db")
    if is_small_at_start:
        other.write_bytes(b"o" * 4 * MEGABYTE)
    assert claims(store, "first", 20, most=1) == 1
    if not is_small_at_start:  # the log may have an eighth of what was free when the file was opened
        other.write_bytes(b"o" * (shutil.disk_usage(small_disk).free - MEGABYTE // 2))
    filled = claims(store, "large", 20_000, most=1000)
    assert filled > (50 if is_small_at_start else 8)  # the log alone took half of it
    assert claims(store, "one", 20_000, most=1) == 0
    with other.open("ab") as file:
        file.truncate(file.tell() - MEGABYTE)
    for number in range(filled):
        assert store.drop(f"large{number}", f"t{number}")
    assert claims(store, "small", 1000, most=500) == 500
    assert (small_disk / "keys.db-wal").stat().st_size < MEGABYTE
    store.close()
